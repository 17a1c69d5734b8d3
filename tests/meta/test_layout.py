"""The rules of the house that no linter knows: sizes, names, and what a layer may not do."""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
VAGUE_NAMES = {"base", "common", "helper", "helpers", "misc", "util", "utils"}
SQL_METHODS = {"execute", "executemany", "executescript"}
CLOCK_CALLS = {
    *(f"datetime.{call}" for call in ("now", "utcnow", "today")),
    *(f"datetime.datetime.{call}" for call in ("now", "utcnow", "today")),
    *("date.today", "datetime.date.today", "asyncio.sleep"),
    *(f"time.{call}" for call in ("sleep", "time", "time_ns", "monotonic", "perf_counter")),
}
UNSAFE_READERS = {
    *("cloudpickle", "cPickle", "dill", "jsonpickle", "marshal", "pickle", "shelve", "yaml"),
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
OPENING_CALLS = {"open", "read_bytes", "read_text", "write_bytes", "write_text"}
Rule = Callable[[ast.Module], Iterator[str]]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(tree: ast.Module) -> Iterator[str]:
    for function in functions(tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield f"{function.lineno}: {function.name} has {lines} lines"


def assert_statements(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"{node.lineno}: assert is removed by python -O; raise InternalError"


def clock_reads(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCK_CALLS:
            yield f"{node.lineno}: {ast.unparse(node)}"


def awaits(tree: ast.Module) -> Iterator[str]:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    for node in ast.walk(tree):
        if isinstance(node, waiting):
            yield f"{node.lineno}: {type(node).__name__}"


def is_built_from_parts(node: ast.expr) -> bool:
    """Whether an SQL argument is put together from strings at the call."""
    match node:
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) for value in values)
        case ast.BinOp(op=ast.Add() | ast.Mod()):
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "join")):
            return True
        case ast.NamedExpr(value=value):
            return is_built_from_parts(value)
        case _:
            return False


def formatted_sql(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[sql, *_]):
                if name in SQL_METHODS and is_built_from_parts(sql):
                    yield f"{node.lineno}: {name}({ast.unparse(sql)})"


def unsafe_reads(tree: ast.Module) -> Iterator[str]:
    """What would let data become code: a journal is data (invariant I16)."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=str(module)):
                modules = [module]
            case ast.Call(func=ast.Name(id=name)) if name in UNSAFE_CALLS:
                yield f"{node.lineno}: {name}()"
                continue
            case _:
                continue
        for module in modules:
            if module.partition(".")[0] in UNSAFE_READERS:
                yield f"{node.lineno}: import {module}"


def opened_files(tree: ast.Module) -> Iterator[str]:
    """Every place that opens a file by itself.

    Why: whoever opens and closes a database's file in a process that uses it drops its locks.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="open")):
                yield f"{node.lineno}: {ast.unparse(node)}"
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in OPENING_CALLS:
                yield f"{node.lineno}: {ast.unparse(value)}.{name}"


def catches_everything(expression: ast.expr | None) -> bool:
    match expression:
        case None:
            return True
        case ast.Name(id="Exception" | "BaseException"):
            return True
        case ast.Tuple(elts=elements):
            return any(catches_everything(element) for element in elements)
        case _:
            return False


def swallowed_errors(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=caught, body=body) if catches_everything(caught):
                silent = (ast.Pass, ast.Continue)
                if all(
                    isinstance(line, silent)
                    or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
                    for line in body
                ):
                    yield f"{node.lineno}: an error is caught and dropped"
            case ast.Call(func=ast.Attribute(attr="suppress") | ast.Name(id="suppress"), args=args):
                if any(catches_everything(argument) for argument in args):
                    yield f"{node.lineno}: {ast.unparse(node)}"


def vague_parts(path: Path) -> set[str]:
    return VAGUE_NAMES & set(re.split(r"[_.\W]+", path.stem.lower()))


def offences(rule: Rule, sources) -> list[str]:
    return [f"{source.name}:{offence}" for source in sources for offence in rule(source.tree)]


def of_core(sources):
    found = [source for source in sources if "/core/" in source.name]
    assert found, "no module in core/"
    return found


def test_no_file_is_longer_than_a_reader_can_hold(sources):
    long = {source.name: len(source.text.splitlines()) for source in sources}
    assert {name: lines for name, lines in long.items() if lines > FILE_LINES_MAX} == {}


def test_no_function_is_longer_than_a_screen(sources):
    assert offences(long_functions, sources) == []


def test_every_module_says_what_it_owns(sources):
    assert [source.name for source in sources if not ast.get_docstring(source.tree)] == []


def test_no_module_has_a_name_that_says_nothing(root):
    named = [*(root / "src").rglob("*.py"), *(root / "tests").rglob("*.py")]
    paths = {path.relative_to(root) for path in named}
    folders = {parent for path in paths for parent in path.parents}
    assert sorted(str(path) for path in paths | folders if vague_parts(path)) == []


def test_the_package_checks_its_invariants_under_python_O_too(sources):  # noqa: N802
    assert offences(assert_statements, sources) == []


def test_the_core_reads_no_clock(sources):
    assert offences(clock_reads, of_core(sources)) == []


def test_the_core_waits_for_nothing(sources):
    assert offences(awaits, of_core(sources)) == []


def test_no_sql_is_put_together_from_strings(sources):
    assert offences(formatted_sql, sources) == []


def test_no_error_is_dropped_in_silence(sources):
    assert offences(swallowed_errors, sources) == []


def test_nothing_turns_data_into_code(sources):
    assert offences(unsafe_reads, sources) == []


# Which modules open files by themselves, and which files; none of it is a database or its log,
# but for a database that no process can have yet.
OPENED = {
    "cli/screen.py": "nowhere, in the place of a stream that is not there",
    "cli/snapshot.py": "transactions.json",
    "credentials.py": "files that hold a secret",
    "demo/ledger.py": "no file: a participant's table",
    "demo/product.py": "the output of the demo's processes",
    "demo/show.py": "the demo's plans",
    "demo/trip.py": "the logs of the demo's services",
    "drivers/backups.py": "backups",
    "drivers/host.py": "no file: an engine",
    "drivers/witnesses.py": "head witnesses",
    "mcp/config.py": "the gateway's configuration",
    "mcp/guard.py": "the lock files of gateways and of their servers",
    "mcp/kept_files.py": "the files that agents change through the gateway",
    "mcp/rules.py": "the rules that ship with the gateway",
    "mcp/standard_input.py": "nowhere, in the place of standard input",
    "plans/document.py": "plan files",
    "plans/schema.py": "the JSON Schema of plans",
    "stores/postgres/liveness.py": "what the system says of processes",
    "stores/postgres/schema.py": "migrations",
    "stores/postgres/statements/__init__.py": "statements",
    "stores/sqlite/creation.py": "a new database under another name, before SQLite and behind it",
    "stores/sqlite/database.py": "the system's table of locks",
    "stores/sqlite/health.py": "the system's table of mounts",
    "stores/sqlite/liveness.py": "the lock files of drivers, and the id of this boot",
    "stores/sqlite/log.py": "the write-ahead log, which holds no lock",
    "stores/sqlite/names.py": "a folder, and a new database under another name, to sync it",
    "stores/sqlite/schema.py": "migrations",
    "web/principals.py": "the file of tokens",
    "web/sessions.py": "no file: somebody who logs in",
    "stores/sqlite/writer.py": "the lock file of writers",
    "web/pages/login.py": "no file: somebody who logs in",
    "web/pages/static_files.py": "the static files that ship with the pages",
}


def test_no_file_of_a_database_is_opened_but_through_sqlite(sources):
    found = {source.name for source in sources if list(opened_files(source.tree))}
    names = {name.partition("aumai_transactions/")[2] for name in found}
    # Why not the test kit: it looks at the files of processes that it has killed.
    assert {name for name in names if not name.startswith("testing/")} == set(OPENED)


def test_every_unit_test_stands_where_its_module_stands(root, package):
    unit = root / "tests" / "unit"
    tests = sorted(unit.rglob("test_*.py"))
    assert tests, f"no test below {unit}"
    strays = []
    for test in tests:
        # test_store__paging.py is a second file for store.py.
        module = test.stem.removeprefix("test_").partition("__")[0]
        twin = package / test.relative_to(unit).parent / module
        if not (twin.with_suffix(".py").is_file() or (twin / "__init__.py").is_file()):
            strays.append(str(test.relative_to(root)))
    assert strays == []


@pytest.mark.parametrize(
    "rule,broken",
    [
        (long_functions, "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX),
        (assert_statements, "assert True"),
        (clock_reads, "time.sleep(1)"),
        (clock_reads, "created_at = datetime.now(UTC)"),
        (clock_reads, "Field(default_factory=datetime.datetime.now)"),
        (awaits, "async def f(): ..."),
        (formatted_sql, 'db.execute(f"SELECT {name}")'),
        (formatted_sql, 'db.executescript("DROP TABLE " + name)'),
        (formatted_sql, 'db.executemany("INSERT INTO %s" % name, rows)'),
        (formatted_sql, 'execute("SELECT {}".format(name))'),
        (unsafe_reads, "import pickle"),
        (unsafe_reads, "from yaml import load"),
        (unsafe_reads, "import marshal.x"),
        (unsafe_reads, "eval(text)"),
        (opened_files, "open(path)"),
        (opened_files, "self.path.open('rb')"),
        (opened_files, "path.read_bytes()"),
        (opened_files, "os.open(path, 0)"),
        (swallowed_errors, "try: f()\nexcept Exception: pass"),
        (swallowed_errors, "try: f()\nexcept: ..."),
        (swallowed_errors, "for x in y:\n  try: f()\n  except (OSError, Exception): continue"),
        (swallowed_errors, "with contextlib.suppress(Exception): f()"),
    ],
)
def test_a_rule_sees_what_breaks_it(rule, broken):
    assert list(rule(ast.parse(broken)))


@pytest.mark.parametrize(
    "rule,sound",
    [
        (long_functions, "def f():\n" + "    pass\n" * (FUNCTION_LINES_MAX - 1)),
        (clock_reads, "decide(transaction, observation, self.now); datetime.fromisoformat(x)"),
        (formatted_sql, 'db.execute("SELECT ? " "AS x", (name,)); print(f"{name}")'),
        (swallowed_errors, "try: f()\nexcept Exception as error: errors.append(error)"),
        (unsafe_reads, "import json; re.compile(x); json.loads(text)"),
        (opened_files, "connection.execute(x); opened(path); open_store(path)"),
        (swallowed_errors, "with suppress(FileNotFoundError): f()"),
    ],
)
def test_a_rule_leaves_sound_code_alone(rule, sound):
    assert list(rule(ast.parse(textwrap.dedent(sound)))) == []


@pytest.mark.parametrize("name", ["utils.py", "http_helpers.py", "test_misc.py", "base"])
def test_a_vague_name_is_seen(name):
    assert vague_parts(Path(name))


@pytest.mark.parametrize("name", ["database.py", "commonplace.py", "store.py"])
def test_a_name_that_only_contains_a_vague_word_is_left_alone(name):
    assert not vague_parts(Path(name))
