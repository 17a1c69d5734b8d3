"""What a server understands otherwise than it looks: other names of files, other repositories."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import unicodedata
from pathlib import Path

import pytest
from tests.gateway.bench import Bench, asked, begun, refused, run, text, tree
from tests.gateway.servers import npm_server, pypi_server
from tests.gateway.test_ready_made import command_of, git, repository


@pytest.fixture
def files(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
def bench(tmp_path: Path, files: Path) -> Bench:
    words = [*npm_server("filesystem"), str(files)]
    return Bench(tmp_path, {"fs": command_of(words, "filesystem", folders=[str(files)])})


def test_a_file_is_put_back_under_whichever_name_it_was_written(bench: Bench, files: Path) -> None:
    (files / unicodedata.normalize("NFD", "café")).write_text("mine")
    (files / "a" / "b").mkdir(parents=True)
    (files / "link").symlink_to("a/b")
    (files / "file").write_text("mine")
    (files / "a" / "file").write_text("mine")
    before = tree(files)

    async def main() -> None:
        async with bench.stdio() as client:
            for name in (
                unicodedata.normalize("NFC", "café"),
                unicodedata.normalize("NFC", "café/new"),
                "link/../file",
                "link/file",
                "file ",
                "file/",
                "/file",
                "./a/../file",
                '"file"',
                "x" * 255,
            ):
                tx = await begun(client)
                about = {"path": f"{files}/{name}", "content": "x", "transaction_id": tx}
                await client.call_tool("fs__write_file", about)
                where = {"source": f"{files}/{name}", "destination": f"{files}/moved"}
                await client.call_tool("fs__move_file", {**where, "transaction_id": tx})
                told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
                assert told["needs_a_person"] == []
                assert tree(files) == before, name

    run(main())


def test_a_folder_that_was_there_keeps_what_others_do_in_it(bench: Bench, files: Path) -> None:
    there = files / "there"
    there.mkdir()
    (there / "large").write_bytes(os.urandom(2_000_000))

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "fs__create_directory", path=str(there), transaction_id=tx)
            new = str(there / "new" / "deep")
            await asked(client, "fs__create_directory", path=new, transaction_id=tx)
            (there / "theirs").write_text("x")
            await asked(client, "tx_rollback", transaction_id=tx)

    run(main())
    assert sorted(one.name for one in there.iterdir()) == ["large", "theirs"]


@pytest.mark.parametrize("kind", ["the folder inside", "bare", "another work tree"])
def test_a_repository_that_is_not_where_it_looks_is_not_changed(tmp_path: Path, kind: str) -> None:
    repo = repository(tmp_path)
    named = {
        "the folder inside": repo / ".git",
        "bare": repo / "bare.git",
        "another work tree": repo / "other",
    }[kind]
    if kind == "bare":
        git(repo, "clone", "-q", "--bare", str(repo), str(named))
    elif kind == "another work tree":
        git(repo, "worktree", "add", "-q", str(named))
    (repo / "file").write_text("two")
    words = [*pypi_server("git"), "--repository", str(repo)]
    bench = Bench(tmp_path, {"git": command_of(words, "git", folders=[str(repo)])})
    before = tree(repo)

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            for tool, more in (
                ("git_add", {"files": ["file"]}),
                ("git_reset", {}),
                ("git_commit", {"message": "two"}),
                ("git_create_branch", {"branch_name": "topic"}),
            ):
                about = {"repo_path": str(named), "transaction_id": tx, **more}
                assert "there is no folder" in await refused(client, f"git__{tool}", **about)
            await asked(client, "tx_rollback", transaction_id=tx)

    run(main())
    assert tree(repo) == before


def test_a_merge_that_was_concluded_is_one_again_that_waits(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    git(repo, "config", "user.name", "t")
    git(repo, "config", "user.email", "t@example.com")
    (repo / "file").write_text("one")
    git(repo, "add", "file")
    git(repo, "commit", "-qm", "one")
    git(repo, "checkout", "-q", "-b", "topic")
    (repo / "other").write_text("two")
    git(repo, "add", "other")
    git(repo, "commit", "-qm", "two")
    git(repo, "checkout", "-q", "main")
    git(repo, "merge", "-q", "--no-ff", "--no-commit", "topic")
    words = [*pypi_server("git"), "--repository", str(repo)]
    bench = Bench(tmp_path, {"git": command_of(words, "git", folders=[str(repo)])})
    before = git(repo, "status")
    assert "still merging" in before

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            about = {"repo_path": str(repo), "message": "merged", "transaction_id": tx}
            await asked(client, "git__git_commit", **about)
            assert "still merging" not in git(repo, "status")
            await asked(client, "tx_rollback", transaction_id=tx)

    run(main())
    assert git(repo, "status") == before


def test_a_database_that_somebody_else_has_open_is_not_written_to(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    words = [*pypi_server("sqlite"), "--db-path", str(file)]
    bench = Bench(tmp_path, {"db": command_of(words, "sqlite", files=[str(file)])})

    async def main() -> None:
        async with bench.stdio() as client:
            with contextlib.closing(sqlite3.connect(file)) as other:
                other.execute("pragma journal_mode = wal")
                other.execute("create table t (a)")
                other.commit()
                tx = await begun(client)
                about = {"query": "insert into t values (2)", "transaction_id": tx}
                assert "somebody else" in await refused(client, "db__write_query", **about)
                assert other.execute("select * from t").fetchall() == []
            # Nobody has it open now, and what was to be written into it is in it.
            before = file.read_bytes()
            await asked(client, "db__write_query", **about)
            rows = {"query": "select * from t", "transaction_id": tx}
            assert "2" in text(await asked(client, "db__read_query", **rows))
            await asked(client, "tx_rollback", transaction_id=tx)
            assert file.read_bytes() == before

    run(main())
    assert sorted(one.name for one in tmp_path.glob("shop.db*")) == ["shop.db"]
