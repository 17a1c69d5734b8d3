"""A coding agent edits real files and a real git repository, and leaves nothing that it gave up.

python examples/coding_agent.py

Each attempt of the agent is a savepoint: its first patch makes the tests fail and is undone to the
byte, its second one passes and is committed. Then an agent that gives up, and one whose process is
killed in the middle of its commit: both leave the repository as it was, and what its owner had
lying about there, staged and unstaged, is never touched. The agent's model is a script; needs git.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from aumai_transactions import StepContext, StepRejected, TransactionManager, step

PRICES = "def total(prices, discount):\n    return sum(prices) - discount\n"
TESTS = """\
import unittest

from prices import total

class Prices(unittest.TestCase):
    def test_a_discount_is_a_share(self):
        self.assertEqual(total([100, 50], 0.1), 135)

    def test_there_is_no_negative_total(self):
        self.assertEqual(total([100], 1.5), 0)
"""


# ------------------------------------------------------------------------- the agent's tools


class File(BaseModel):
    """All that matters of a file, so that it can be put back to the byte."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    mode: int
    content: bytes

    @classmethod
    def at(cls, path: Path) -> "File | None":
        """Return the file that is there now, if there is one."""
        if not path.is_file():
            return None
        return cls(mode=path.stat().st_mode & 0o777, content=path.read_bytes())

    def put(self, path: Path) -> None:
        """Write it there."""
        # Whole or not at all, whenever the process dies: written elsewhere, then moved.
        draft = Path(f"../draft-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}")
        draft.write_bytes(self.content)
        draft.chmod(self.mode)
        draft.replace(path)


def undo_change(at: str, new: File | None, old: File | None, parents: list[str]) -> None:
    """Put a file back. Called again, or for a change that never happened, it does nothing."""
    if File.at(Path(at)) not in (new, old):
        raise StepRejected(f"somebody else has changed {at} since; it is left to them")
    if old is not None:
        old.put(Path(at))
    else:
        Path(at).unlink(missing_ok=True)
    for folder in reversed(parents):
        with contextlib.suppress(OSError):  # somebody else's file is in it, or it is gone
            Path(folder).rmdir()


# What a file was before stands in the step's data. So it is on disk before the file is touched,
# and whoever undoes it, this process or the next one, knows what to put back.
@step(name="change_file", compensating_action=undo_change, idempotent=True)
def change_file(at: str, new: File | None, old: File | None, parents: list[str]) -> None:
    if File.at(Path(at)) not in (new, old):
        raise StepRejected(f"somebody else has changed {at} just now")
    for folder in parents:
        Path(folder).mkdir(exist_ok=True)
    if new is not None:
        new.put(Path(at))
    else:
        Path(at).unlink(missing_ok=True)


def write(path: str, text: str) -> None:
    """Write a file, new or not: one of the tools that the model knows."""
    old = File.at(Path(path))
    new = File(mode=old.mode if old else 0o644, content=text.encode())
    missing = [str(folder) for folder in Path(path).parents if not folder.is_dir()]
    change_file(path, new, old, missing[::-1])


def delete(path: str) -> None:
    change_file(path, None, File.at(Path(path)), [])


@step(name="run_tests", effect="none")
def run_tests() -> str:
    command = [sys.executable, "-B", "-m", "unittest", "-q"]
    ran = subprocess.run(command, capture_output=True, check=False, text=True)
    return "" if ran.returncode == 0 else ran.stderr


GIT = shutil.which("git") or "git"


def git(*words: str) -> str:
    quiet = ["-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"]
    who = ["-c", "user.name=agent", "-c", "user.email=agent@example.com"]
    ran = subprocess.run([GIT, *quiet, *who, *words], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def undo_commit(parent: str, index: str, context: StepContext) -> None:
    """Take a commit back, if it was made, and put back what was staged before it."""
    head = git("rev-parse", "HEAD")
    if head != parent:
        if context.forward_key not in git("log", "-1", "--format=%B"):
            raise StepRejected(f"there are commits on top of it; {head} is left to a person")
        git("update-ref", "HEAD", parent, head)  # refused, should HEAD move just now
    git("read-tree", index)


# Outside of a transaction nobody gives it a context; in one, no caller has to.
@step(name="git_commit", compensating_action=undo_commit, idempotent=True)
def git_commit(
    message: str, paths: list[str], parent: str, index: str, context: StepContext | None = None
) -> str:
    # The key in the message tells its undo, and a second call of this step, that it is this one.
    key = context.idempotency_key if context else "by hand"
    if key not in git("log", "-1", "--format=%B"):
        git("add", "--all", "--", *paths)
        git("commit", "--quiet", "--only", "-m", message, "-m", f"Step: {key}", "--", *paths)
    if os.environ.get("DIE_IN") == "git_commit":
        os.kill(os.getpid(), signal.SIGKILL)
    return git("rev-parse", "HEAD")


def commit(message: str, paths: list[str]) -> str:
    return git_commit(message, paths, parent=git("rev-parse", "HEAD"), index=git("write-tree"))


TOOLS: dict[str, Callable[..., None]] = {"write": write, "delete": delete}


# ------------------------------------------------------------------------------ the agent


ToolCalls = Iterator[tuple[str, dict[str, str]]]


class TestsFail(Exception):
    """Say what the tests of an attempt reported."""


def bad_patch() -> ToolCalls:
    """Yield the tool calls of a model that has not understood the second test."""
    yield "write", {"path": "prices.py", "text": PRICES.replace("- discount", "* (1 - discount)")}
    yield "write", {"path": "docs/notes/prices.md", "text": "A discount is a share.\n"}
    yield "delete", {"path": "old_prices.py"}


def good_patch() -> ToolCalls:
    text = "def total(prices, discount):\n    return max(0, sum(prices) * (1 - discount))\n"
    yield "write", {"path": "prices.py", "text": text}
    yield "write", {"path": "docs/prices.md", "text": "A discount is a share, at most all of it.\n"}
    yield "delete", {"path": "old_prices.py"}


def work(manager: TransactionManager, patches: list[ToolCalls]) -> None:
    """Try one patch after the other; commit the first one that passes, or give up."""
    untouched = fingerprint()
    with manager.transaction(name="repair prices.py") as tx, tx.agent("coder"):
        for number, patch in enumerate(patches, 1):
            try:
                with tx.savepoint(f"attempt {number}"):
                    attempt(number, patch)
                    return
            except TestsFail as error:
                print(f"  attempt {number} fails: {error}; undone to the byte:", end=" ")
                print(fingerprint() == untouched)
                assert fingerprint() == untouched
                if number < len(patches):
                    # What a model would be told before its next attempt; cut short here.
                    for line in str(tx.describe()).replace(tx.transaction_id, "…").splitlines():
                        print(f"    {line:.72}")
        raise RuntimeError("the agent gives up")


def attempt(number: int, patch: ToolCalls) -> None:
    paths = []
    for tool, arguments in patch:
        TOOLS[tool](**arguments)
        paths.append(arguments["path"])
    report = run_tests()
    if report:
        raise TestsFail(next(line for line in report.splitlines() if "Error: " in line))
    commit("A discount is a share", paths)
    print(f"  attempt {number} passes, and is committed")


# ------------------------------------------------------------------------------ the story


def fingerprint() -> str:
    """Hash every file and folder with its mode, what is staged, HEAD and all branches.

    Not what is left of a commit in git's own cellar: nothing points to it, and git clears it away.
    """
    told = hashlib.sha256()
    for path in sorted(Path().rglob("*")):
        if path.parts[0] != ".git":
            content = path.read_bytes() if path.is_file() else b""
            told.update(f"{path} {path.stat().st_mode:o} {len(content)}\n".encode() + content)
    for words in (["ls-files", "--stage"], ["rev-parse", "HEAD"], ["for-each-ref"]):
        told.update(git(*words).encode())
    return told.hexdigest()


def make_repository(folder: Path) -> None:
    folder.mkdir()
    os.chdir(folder)
    git("init", "--quiet", "--initial-branch=main")
    Path("prices.py").write_text(PRICES, "utf-8")
    Path("prices.py").chmod(0o755)
    Path("test_prices.py").write_text(TESTS, "utf-8")
    Path("old_prices.py").write_bytes(b"# caf\xe9, in no encoding that anybody knows\r\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "Begin")
    # What the owner of the repository is in the middle of.
    Path("todo.txt").write_text("buy milk\n", "utf-8")
    git("add", "todo.txt")
    Path("todo.txt").write_text("buy milk\nand bread\n", "utf-8")


def open_manager() -> TransactionManager:
    return TransactionManager(store="../journal.db")


def repaired() -> None:
    print("An agent whose second attempt passes:")
    with open_manager() as manager:
        work(manager, [bad_patch(), good_patch()])
    assert git("log", "-1", "--format=%s") == "A discount is a share"
    changed = git("show", "--name-status", "--format=").splitlines()
    assert [line.split()[0] for line in changed] == ["A", "D", "M"]
    assert not Path("docs/notes").exists()
    print("  left for the owner:", git("status", "--porcelain"))
    assert git("status", "--porcelain") == "AM todo.txt"


def given_up() -> None:
    print("\nAn agent that gives up:")
    before = fingerprint()
    with open_manager() as manager:
        try:
            work(manager, [bad_patch(), bad_patch()])
        except RuntimeError as error:
            print(f"  {error}; the repository is as it was:", fingerprint() == before)
    assert fingerprint() == before


def killed() -> None:
    print("\nAn agent that is killed right after git has committed:")
    before = fingerprint()
    child = [sys.executable, str(PROGRAM), "--work"]
    died = subprocess.run(child, check=False, env={**os.environ, "DIE_IN": "git_commit"})
    assert died.returncode == -signal.SIGKILL
    print("  the commit is there:", git("log", "-1", "--format=%s"))
    assert fingerprint() != before
    with open_manager() as manager:
        (found,) = manager.recover()
    print(f"  recovered: {found.outcome}, nobody knew whether it had committed;", end=" ")
    print("the repository is as it was:", fingerprint() == before)
    assert fingerprint() == before
    assert found.result is not None
    assert found.result.clean


PROGRAM = Path(__file__).resolve()


def main() -> None:
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for story in (repaired, given_up, killed):
            place = Path(folder) / story.__name__
            place.mkdir()
            make_repository(place / "repository")
            story()
            os.chdir(home)


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        with open_manager() as here:
            work(here, [good_patch()])
    else:
        main()
