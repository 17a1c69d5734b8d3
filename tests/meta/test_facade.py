"""What `import aumai_transactions` gives, and what it costs."""

import ast
import enum
import inspect
import itertools
import json
import subprocess
import sys

import pytest

import aumai_transactions

# Everything an extra, a neighbour or a developer may bring; nobody pays for it at import.
OPTIONAL = {
    "asyncpg", "crewai", "dbos", "hypothesis", "jinja2", "jsonschema", "langchain",
    "langchain_core", "langgraph", "mcp", "opentelemetry", "psycopg", "pytest", "restate", "rich",
    "sqlalchemy", "starlette", "temporalio", "uvicorn",
}  # fmt: skip
# Only there on some systems: whoever needs them imports them where they are used. The standard
# library loads some of them itself, so what counts is what our modules ask for.
PLATFORM_ONLY = {"fcntl", "grp", "msvcrt", "pwd", "winreg"}
REQUIRED = {"aumai_transactions", "pydantic", "pydantic_core"}


def facade_order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions: the order ruff (RUF022) keeps `__all__` in."""
    if name.isupper():
        return (0, name)
    return (1 if name[0].isupper() else 2, name)


def printed_by(program: str) -> set[str]:
    """Top-level names of the modules that `program` prints as JSON in a fresh interpreter."""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60
    )
    return {name.partition(".")[0] for name in json.loads(ran.stdout)}


def loaded_by(module: str) -> set[str]:
    """What a fresh interpreter has loaded after importing `module`, and not before."""
    return printed_by(
        "import json, sys\n"
        "before = set(sys.modules)\n"
        f"import {module}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )


def asked_for_by(module: str) -> set[str]:
    """What the modules of a package import by themselves while the package is imported."""
    return printed_by(
        "import builtins, json\n"
        "real, asked = builtins.__import__, set()\n"
        "def watched(name, globals=None, locals=None, fromlist=(), level=0):\n"
        "    importer = str((globals or {}).get('__name__'))\n"
        f"    if level == 0 and importer.partition('.')[0] == {module!r}:\n"
        "        asked.add(name)\n"
        "    return real(name, globals, locals, fromlist, level)\n"
        "builtins.__import__ = watched\n"
        f"import {module}\n"
        "print(json.dumps(sorted(asked)))\n"
    )


def documented_assignments(sources) -> set[str]:
    """Names that a module binds at its top level and explains in a string right below."""
    documented = set()
    for source in sources:
        body = source.tree.body
        for statement, after in itertools.pairwise(body):
            match statement, after:
                case (
                    ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str())),
                ):
                    documented.add(name)
    return documented


def has_own_docstring(thing: object) -> bool:
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else inspect.getdoc(thing)
    if not text or not text.strip():
        return False
    # What Enum and dataclass write by themselves explains nothing.
    name = getattr(thing, "__name__", "")
    return text != enum.Enum.__doc__ and not text.startswith(f"{name}(")


def test_all_is_sorted_and_names_nothing_twice():
    names = list(aumai_transactions.__all__)
    assert names == sorted(set(names), key=facade_order)


@pytest.mark.parametrize("name", aumai_transactions.__all__)
def test_a_public_name_exists_and_is_explained(name, sources):
    thing = getattr(aumai_transactions, name)
    if name == "__version__":
        return
    is_ours = getattr(thing, "__module__", "").startswith(aumai_transactions.__name__)
    if is_ours and (inspect.isclass(thing) or inspect.isroutine(thing)):
        assert has_own_docstring(thing), f"{name} has no docstring of its own"
    else:
        assert name in documented_assignments(sources), f"{name} has no string below it"


def test_the_facade_holds_nothing_but_imports_and_all(package):
    tree = ast.parse((package / "__init__.py").read_text("utf-8"))
    strangers = []
    for statement in tree.body:
        match statement:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")]):
                pass
            case ast.AnnAssign(target=ast.Name(id="__all__" | "__version__")):
                pass
            # What is imported when it is first asked for (PEP 562), and what names it for types.
            case ast.FunctionDef(name="__getattr__") | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case _:
                strangers.append(ast.unparse(statement))
    assert strangers == []


def test_everything_the_facade_imports_is_in_all(package):
    tree = ast.parse((package / "__init__.py").read_text("utf-8"))
    imported = {
        alias.asname or alias.name
        for statement in tree.body
        if isinstance(statement, ast.ImportFrom) and statement.module != "typing"
        for alias in statement.names
    }
    assert {name for name in imported if not name.startswith("_")} <= set(
        aumai_transactions.__all__
    )


def test_importing_the_package_loads_nothing_optional():
    assert loaded_by("aumai_transactions") & OPTIONAL == set()


def test_the_package_asks_for_its_requirements_and_what_every_system_has():
    asked = asked_for_by("aumai_transactions")
    assert asked & REQUIRED, "the watcher saw nothing"
    assert asked - set(sys.stdlib_module_names) - REQUIRED == set()
    assert asked & PLATFORM_ONLY == set()


def test_a_loaded_optional_package_would_be_noticed():
    assert "pytest" in loaded_by("pytest") & OPTIONAL


def test_importing_the_package_leaves_out_what_costs_most_and_few_need():
    costly = {"asyncio", "multiprocessing", "sqlite3", "subprocess", "urllib.request"}
    assert loaded_by("aumai_transactions") & costly == set()


def test_a_name_that_is_imported_late_is_there_and_an_unknown_one_is_not():
    assert aumai_transactions.AsyncTransactionManager.__module__.endswith("drivers.aio")
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = aumai_transactions.Nonsense
