"""The OpenAPI document, made of the table of operations.

Owns: how an operation is described. It is written into `docs/openapi.json`, and a test compares.
Source: OpenAPI 3.1.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from aumai_transactions.web.api import bodies
from aumai_transactions.web.api.answers import ProblemDocument
from aumai_transactions.web.api.examples import EXAMPLES, of_problem
from aumai_transactions.web.api.operations import (
    EVENT_STREAM,
    JSON,
    OF_SEQUENCE,
    OPERATIONS,
    PREFIX,
    Operation,
)
from aumai_transactions.web.api.requests import query_of

if TYPE_CHECKING:
    from starlette.requests import Request

PROBLEM_JSON = "application/problem+json"
_REFS = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "It cannot be read.",
    401: "There is no token, or nobody's.",
    403: "The token lacks the scope, or this server only shows.",
    404: "There is no such thing, or it is not yours.",
    408: "The body took too long.",
    409: "It does not fit how the transaction stands.",
    412: "The transaction is not as If-Match says; the ETag is the present one.",
    413: "The body is too large.",
    414: "The path is too long.",
    415: "The body is no JSON.",
    421: "The server is not reached under this name.",
    422: "Something in it cannot be; `errors` name the places.",
    429: "There were too many requests.",
    500: "Something went wrong here.",
    503: "The store, or a place for one more, cannot be had now.",
}
_ONLY_CHANGES = (408, 409, 412, 413, 415)


async def show(request: Request) -> Response:
    """Show the document."""
    query_of(request, bodies.NoQuery)
    return Response(text(), media_type=JSON, headers={"cache-control": "no-cache, private"})


SHOW = Operation(
    "GET",
    "/openapi.json",
    "getDescription",
    show,
    "read",
    "Show this document",
    "OpenAPI 3.1.",
    {200: None},
)


@cache
def text() -> str:
    """Return the document as it is served and committed."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def everything() -> list[Operation]:
    """Return every operation, that which shows the document the last."""
    return [*OPERATIONS, SHOW]


def document() -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in everything():
        found = paths.setdefault(PREFIX + operation.path, {})
        found[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "aumai-transactions",
            "version": version("aumai-transactions"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Transactions for multi-agent operations, over HTTP: every step "
            "succeeds, or every effect is undone.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token made with `aumai-transactions tokens add NAME`.",
                }
            },
            "schemas": _schemas(),
            "responses": {str(status): _problem(status) for status in _PROBLEMS},
        },
    }


def _schemas() -> dict[str, Any]:
    taken: set[type[BaseModel]] = set()
    given: set[type[BaseModel]] = {ProblemDocument}
    for operation in everything():
        taken |= {operation.body} if operation.body is not None else set()
        given |= {model for model in operation.answers.values() if model is not None}
    ordered = [(model, "validation") for model in sorted(taken, key=lambda one: one.__name__)]
    ordered += [(model, "serialization") for model in sorted(given, key=lambda one: one.__name__)]
    _, found = models_json_schema(ordered, ref_template=_REFS)  # type: ignore[arg-type]
    schemas: dict[str, Any] = found["$defs"]
    return dict(sorted(schemas.items()))


def _described(operation: Operation) -> dict[str, Any]:
    needs = operation.needs
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{operation.description}\n\nNeeds the scope `{needs}`.",
        "security": [{"token": [needs]}],
        "x-scope": needs,
        "parameters": [*_in_path(operation), *_in_query(operation), *_in_headers(operation)],
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": _ref(operation.body)}}
        if operation.name in EXAMPLES:
            content["example"] = EXAMPLES[operation.name]
        is_needed = any(field.is_required() for field in operation.body.model_fields.values())
        found["requestBody"] = {"required": is_needed, "content": {JSON: content}}
    found["responses"] = _responses(operation)
    return found


def _ref(model: type[BaseModel]) -> str:
    return _REFS.format(model=model.__name__)


def _in_path(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    told = {
        "transaction_id": "The transaction's id.",
        "step_id": "The step's name within its transaction.",
        "name": "The savepoint's name.",
    }
    schema = {"type": "string", "minLength": 1, "maxLength": bodies.NAME_CHARACTERS_MAX}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": told[name],
            "schema": schema,
        }
        for name in names
    ]


def _in_query(operation: Operation) -> list[dict[str, Any]]:
    schema = operation.query.model_json_schema(ref_template=_REFS)
    definitions = schema.get("$defs", {})
    found = []
    for name, whole in schema.get("properties", {}).items():
        told = _without_null(_inlined(whole, definitions))
        description = told.pop("description", None)
        told.pop("title", None)
        parameter = {"name": name, "in": "query", "required": False, "schema": told}
        if description is not None:
            parameter["description"] = description
        found.append(parameter)
    return found


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(one, definitions) for key, one in schema.items()}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: it is given or not, and never null."""
    if schema.get("default", False) is None:
        schema = {key: one for key, one in schema.items() if key != "default"}
    kinds = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if not kinds or len(kinds) == len(schema["anyOf"]):
        return schema
    rest = {key: one for key, one in schema.items() if key != "anyOf"}
    return {**kinds[0], **rest} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def _in_headers(operation: Operation) -> list[dict[str, Any]]:
    if not operation.is_change:
        found = []
        if operation.tag is not None:
            found.append(_header("If-None-Match", "An ETag: 304 where nothing has changed."))
        if operation.media == EVENT_STREAM:
            schema = {"type": "string", "pattern": r"^\d{1,18}\.\d{1,18}$"}
            told = "The id of the last event that was heard; the stream goes on behind it."
            found.append(_header("Last-Event-ID", told, schema))
        return found
    key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}
    told = "A name for this request: the same one again is heard once, also after a crash."
    found = [_header("Idempotency-Key", told, key)]
    if operation.tag == OF_SEQUENCE and operation.name != "beginTransaction":
        match = {"type": "string", "pattern": r'^("\d{1,18}"|\*)$'}
        told = "The ETag that was seen: 412 where the transaction has gone on."
        found.append(_header("If-Match", told, match))
    if operation.name != "bulk":
        told = "`wait=N`: how many seconds to wait for the outcome, at most 30."
        found.append(_header("Prefer", told))
    return found


def _header(name: str, told: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": told,
        "schema": schema or {"type": "string"},
    }


_DONE = {
    200: "It is so.",
    201: "It was made.",
    202: "It is journaled, and goes on.",
}


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, model in operation.answers.items():
        schema: dict[str, Any] = {"type": "object"} if model is None else {"$ref": _ref(model)}
        if operation.media == EVENT_STREAM:
            schema = {"type": "string"}
        answer: dict[str, Any] = {
            "description": _DONE[status],
            "content": {operation.media: {"schema": schema}},
        }
        headers = _answer_headers(operation)
        if headers:
            answer["headers"] = headers
        found[str(status)] = answer
    if operation.tag is not None and not operation.is_change:
        found["304"] = {"description": "Nothing has changed."}
    for status in _PROBLEMS:
        is_its = status not in _ONLY_CHANGES or operation.is_change
        if is_its and (status != 404 or "{" in operation.path):
            found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return found


def _answer_headers(operation: Operation) -> dict[str, Any]:
    text: dict[str, Any] = {"schema": {"type": "string"}}
    found: dict[str, Any] = {}
    if operation.tag is not None:
        found["ETag"] = {"description": "What it is as told here.", **text}
    if operation.is_change:
        told = "`true` where the same request had been heard before."
        found["Idempotent-Replayed"] = {"description": told, **text}
    if operation.name == "beginTransaction":
        found["Location"] = {"description": "Where the transaction is.", **text}
    return found


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": _PROBLEMS[status],
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": _ref(ProblemDocument)},
                "example": of_problem(status),
            }
        },
    }
