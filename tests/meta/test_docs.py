"""The manual is complete, and what it shows works.

What comments above the blocks of code mean stands in `blocks.py`.
"""

import inspect
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from pydantic import BaseModel
from tests.meta.blocks import FENCE, blocks_of, programs_of

import aumai_transactions
from aumai_transactions import cli, errors
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.drivers.options import (
    BeginOptions,
    BlockOptions,
    CallOptions,
    StepOptions,
)
from aumai_transactions.drivers.steps import StepDeclaration

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
SECONDS_MAX = 60
OPTIONS = [BeginOptions, BlockOptions, CallOptions, StepOptions, StepDeclaration]


def or_nothing(found: list) -> list:
    """The cases, or one case that fails: a manual without a single example must not pass."""
    return found or [pytest.param(None, id="none")]


BLOCKS = blocks_of(README.read_text("utf-8")) if README.is_file() else []
PROGRAMS = programs_of(BLOCKS)
PAGES = {page.stem: blocks_of(page.read_text("utf-8")) for page in ROOT.glob("docs/**/*.md")}
PAGE_PROGRAMS = [
    pytest.param(block, id=f"{page}-{block}")
    for page, blocks in sorted(PAGES.items())
    for block in programs_of(blocks)
]
SCRIPTS = [block for block in BLOCKS if block.language == "bash" and block.directive == "run"]
EXAMPLES = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "examples").rglob("*.py"))
    if path.parent.name == "examples"
    or ("__main__" in path.read_text("utf-8") and path.parent.name != "integrations")
]


def run(command: list[str], folder: Path, environment: dict[str, str]):
    return subprocess.run(
        command,
        capture_output=True,
        check=False,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS_MAX,
    )


def story(ran) -> str:
    return f"exit code {ran.returncode}\n--- stdout\n{ran.stdout}\n--- stderr\n{ran.stderr}"


@pytest.fixture
def folder(tmp_path):
    """An empty folder, as for somebody who tries something out."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return empty


# ------------------------------------------------------------------------------ what is shown


@pytest.mark.parametrize("block", or_nothing(PROGRAMS), ids=str)
def test_a_python_block_of_the_readme_runs(block, folder, stranger):
    assert block, "README.md has no python block"
    program = folder / "program.py"
    program.write_text(block.code, "utf-8")
    if block.directive == "run twice":
        killed = run([sys.executable, program.name], folder, stranger)
        assert killed.returncode == -signal.SIGKILL, story(killed)
    ran = run([sys.executable, program.name], folder, stranger)
    assert ran.returncode == 0, story(ran)


@pytest.mark.parametrize("block", or_nothing(PAGE_PROGRAMS))
def test_a_python_block_of_a_page_runs(block, folder, stranger):
    assert block, "docs/ has no python block"
    program = folder / "program.py"
    program.write_text(block.code, "utf-8")
    ran = run([sys.executable, "-W", "error", program.name], folder, stranger)
    assert ran.returncode == 0, story(ran)


def test_the_first_block_of_the_readme_kills_itself_and_is_run_twice():
    first = next(block for block in BLOCKS if block.language == "python")
    assert first.directive == "run twice"


@pytest.mark.parametrize("block", or_nothing(SCRIPTS), ids=str)
def test_a_bash_block_of_the_readme_runs(block, folder, stranger):
    assert block, "README.md has no bash block that is run"
    ran = run(["bash", "-e", "-c", block.code], folder, stranger)
    assert ran.returncode == 0, story(ran)


@pytest.mark.parametrize("example", or_nothing(EXAMPLES), ids=str)
def test_an_example_runs(example, folder, stranger):
    assert example, "examples/ has no program"
    ran = run([sys.executable, str(ROOT / example)], folder, stranger)
    assert ran.returncode == 0, story(ran)


def test_every_python_block_is_at_least_python():
    for block in BLOCKS:
        if block.language == "python":
            compile(block.code, f"README.md, {block}", "exec")


def test_every_comment_above_a_block_is_one_that_is_understood():
    understood = re.compile(r"|continues|run|run twice|needs \S+|not run: \S.*")
    strange = [str(b) for b in BLOCKS if not understood.fullmatch(b.directive)]
    assert strange == []


def test_every_comment_above_a_block_of_a_page_is_one_that_is_understood():
    understood = re.compile(r"|continues|needs \S+|not run: \S.*")
    strange = [
        f"{page}-{block}"
        for page, blocks in PAGES.items()
        for block in blocks
        if block.language == "python" and not understood.fullmatch(block.directive)
    ]
    assert strange == []


def test_blocks_are_read_with_their_comments_and_continued():
    markdown = (
        "text\n```python\na = 1\n```\n<!-- not run: needs a server -->\n```python\nb = a\n```\n"
        "<!-- continues -->\n\n```python\nprint(a)\n```\n<!-- run -->\n```bash\nls\n```\n"
    )
    blocks = blocks_of(markdown)
    assert [(block.line, block.language, block.directive) for block in blocks] == [
        (2, "python", ""),
        (6, "python", "not run: needs a server"),
        (11, "python", "continues"),
        (15, "bash", "run"),
    ]
    assert [block.code for block in programs_of(blocks)] == ["a = 1\n", "a = 1\n\nprint(a)\n"]


# --------------------------------------------------------------------------- what is complete


def root_group() -> click.Group:
    """The tree of commands, whether the entry point is the click group or calls it."""
    named = [cli.main, *vars(cli).values()]
    groups = [thing for thing in named if isinstance(thing, click.Group)]
    assert groups, "aumai_transactions.cli holds no click group"
    return groups[0]


def commands_below(group: click.Group, path: str = "") -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{path} {name} is listed and cannot be loaded"
        if command.hidden:
            continue
        found.append((f"{path} {name}".strip(), command))
        if isinstance(command, click.Group):
            found += commands_below(command, f"{path} {name}".strip())
    return found


def options_of(command: click.Command) -> set[str]:
    return {
        spelling
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for spelling in [*parameter.opts, *parameter.secondary_opts]
        if spelling.startswith("--")
    }


def is_named(word: str, text: str) -> bool:
    """Whether `text` has `word` as a whole: --wait is not found in --wait-seconds."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def test_every_command_is_in_the_manual(manual):
    commands = commands_below(root_group())
    assert commands
    missing = [path for path, _ in commands if not is_named(f"aumai-transactions {path}", manual)]
    assert missing == []


def test_every_option_is_in_the_manual(manual):
    missing = [
        f"{path} {option}"
        for path, command in [("", root_group()), *commands_below(root_group())]
        for option in sorted(options_of(command))
        if not is_named(option, manual)
    ]
    assert missing == []


def test_every_command_in_a_bash_block_exists(root):
    known = {path.partition(" ")[0] for path, _ in commands_below(root_group())}
    pages = [README, *sorted((root / "docs").rglob("*.md"))]
    strange = [
        f"{page.name}: {line}"
        for page in pages
        for block in blocks_of(page.read_text("utf-8"))
        if block.language == "bash"
        for line in re.findall(r"\baumai-transactions [a-z][\w-]*", block.code)
        if line.partition(" ")[2] not in known
    ]
    assert strange == []


def test_every_error_is_in_the_manual(manual):
    classes = [
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing)
        and issubclass(thing, BaseException)
        and f"{thing.__module__}.".startswith(f"{errors.__name__}.")
        and not name.startswith("_")
    ]
    assert classes
    assert [name for name in classes if not is_named(name, manual)] == []


def test_every_public_name_is_in_the_manual(manual):
    assert [name for name in aumai_transactions.__all__ if not is_named(name, manual)] == []


def arguments_of(thing: Callable[..., object]) -> set[str]:
    """What a function, or a class and its public methods, take by name."""
    found: set[str] = set()
    members: list[Callable[..., object]] = [thing]
    if inspect.isclass(thing):
        members += [
            member
            for name, member in vars(thing).items()
            if inspect.isfunction(member) and not name.startswith("_")
        ]
    for member in members:
        for parameter in inspect.signature(member).parameters.values():
            if parameter.kind is not parameter.VAR_POSITIONAL and parameter.name != "self":
                found.add(parameter.name)
    return found - {"args", "kwargs", "options", "declaration"}


@pytest.mark.parametrize(
    "name",
    [
        *("Action", "RetryPolicy", "TransactionManager", "AsyncTransactionManager"),
        *("SagaOrchestrator", "AsyncSagaOrchestrator", "TransactionBlock"),
        *("AsyncTransactionBlock", "Worker", "open_store", "step", "transaction", "transactional"),
    ],
)
def test_every_argument_of_a_call_is_on_the_page_of_the_python_api(root, name):
    page = (root / "docs" / "python-api.md").read_text("utf-8")
    thing = getattr(aumai_transactions, name)
    wanted = arguments_of(thing)
    if name.endswith("TransactionBlock"):
        wanted -= arguments_of(type("Nothing", (), {"__init__": thing.__init__}))
    assert sorted(word for word in wanted if not is_named(word, page)) == []


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_every_option_of_a_call_is_on_the_page_of_the_python_api(root, kind):
    page = (root / "docs" / "python-api.md").read_text("utf-8")
    assert [word for word in kind.__annotations__ if not is_named(word, page)] == []


def test_every_field_that_users_hold_is_on_the_page_of_the_python_api(root):
    page = (root / "docs" / "python-api.md").read_text("utf-8")
    models = [
        thing
        for thing in map(vars(aumai_transactions).get, aumai_transactions.__all__)
        if inspect.isclass(thing) and issubclass(thing, BaseModel)
    ]
    assert models
    missing = [
        f"{model.__name__}.{field}"
        for model in models
        for field in model.model_fields
        if not is_named(field, page)
    ]
    assert missing == []


def test_every_kind_of_entry_is_on_the_page_of_the_state_machine_with_its_fields(root):
    page = (root / "docs" / "state-machine.md").read_text("utf-8")
    rows: dict[str, str] = {}
    for line in page.partition("## The fields of the entries")[2].splitlines():
        cells = line.split("|")
        if len(cells) > 2:
            rows |= dict.fromkeys(re.findall(r"`(\w+)`", cells[1]), cells[2])
    missing = [
        f"{kind}.{field}"
        for kind, entry in KINDS.items()
        for field in entry._fields
        if field not in ("at", "step_id") and f"`{field}`" not in rows.get(kind, "")
    ]
    assert missing == []
    assert [kind for kind in KINDS if kind not in rows] == []


def test_every_relative_link_leads_somewhere(root):
    broken = []
    for page in [*root.glob("*.md"), *(root / "docs").rglob("*.md")]:
        prose = FENCE.sub("", page.read_text("utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            path = target.partition("#")[0]
            is_remote = "://" in path or path.startswith("mailto:")
            if path and not is_remote and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(root)}: {target}")
    assert broken == []


def test_the_navigation_lists_every_page_once(root):
    navigation = (root / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r":\s*(\S+\.md)\s*$", navigation, re.MULTILINE)
    pages = [path.relative_to(root / "docs").as_posix() for path in (root / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages)
