"""How a request is refused: status, code and text, as problem+json or as a page.

Owns: the one table from errors to HTTP. Source: RFC 9457.
Rules:
  1. What is told is what the error itself says; of a bug only a number is told, under which the
     log has the rest.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from typing import TYPE_CHECKING, Any

from aumai_transactions import errors
from aumai_transactions.drivers.terms import SequenceMoved
from aumai_transactions.integrations.open_transactions import TooManyTransactions

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("aumai_transactions.web")

TYPE_PREFIX = "urn:aumai-transactions:problem:"
DETAIL_CHARACTERS_MAX = 2_000

# The first class that fits decides, so a class stands above those that it inherits from.
_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (TooManyTransactions, 429),
    (SequenceMoved, 412),
    (errors.UnknownStep, 404),
    (errors.IdempotencyKeyReused, 422),
    (errors.DefinitionError, 422),
    (errors.InvalidData, 422),
    (errors.TransactionNotFound, 404),
    (errors.StoreNotFound, 503),
    (errors.StoreUnavailable, 503),
    (errors.InvalidTransactionState, 409),
    (errors.UndoRefused, 409),
    (errors.ApprovalPending, 409),
    (errors.StepInDoubt, 409),
    (errors.StepFailed, 409),
    (errors.StepUndone, 409),
    (errors.LockTimeout, 409),
    (errors.NoActiveTransaction, 409),
    (errors.TransactionRolledBack, 409),
    (errors.TransactionNotFinal, 409),
    (errors.JournalConflict, 409),
    (errors.JournalCorrupt, 500),
    (errors.JournalTooNew, 500),
    (errors.StoreError, 503),
)


class Problem(Exception):
    """Be the refusal of a request.

    Args:
        status: The HTTP status.
        code: What a program tells it by, in kebab-case.
        detail: What happened and what to do next.
        headers: What else the answer has.
        more: Further members of the problem document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        super().__init__(detail)

    @property
    def title(self) -> str:
        """The code in words."""
        return self.code.replace("-", " ").capitalize()

    def document(self) -> dict[str, Any]:
        """Return it as RFC 9457 has it."""
        told = {"type": TYPE_PREFIX + self.code, "title": self.title, "status": self.status}
        return {**told, "detail": self.detail[:DETAIL_CHARACTERS_MAX], **self.more}

    def body(self) -> bytes:
        """Return the document as bytes."""
        return json.dumps(self.document(), ensure_ascii=False).encode("utf-8", "replace")


def problem_of(error: Exception) -> Problem:
    """Return what to answer where an error ended a request."""
    if isinstance(error, Problem):
        return error
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        number = secrets.token_hex(8)
        log.error("request failed, number %s", number, exc_info=error)
        detail = f"Something went wrong here; the log has it under number {number}."
        return Problem(500, "internal-error", detail, more={"number": number})
    if status == 500:
        log.error("%s", error)
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    if isinstance(error, SequenceMoved):
        headers["etag"] = f'"{error.sequence}"'
    return Problem(status, code_of(type(error)), str(error), headers=headers)


def code_of(kind: type[BaseException]) -> str:
    """Return the code of a class of errors: its name in kebab-case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


CODES: Mapping[str, int] = {code_of(kind): status for kind, status in _STATUS}
"""Each code that an error of the library gets, and its status; for the API's description."""
