"""The rules that ship for well-known servers, each with the real server."""

from __future__ import annotations

import http.server
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.bench import Bench, asked, begun, refused, run, text
from tests.gateway.servers import pypi_server

GIT = (
    "git",
    "-c",
    "user.name=t",
    "-c",
    "user.email=t@example.com",
    "-c",
    "init.defaultBranch=main",
)


def git(folder: Path, *words: str) -> str:
    ran = subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True, text=True)
    return ran.stdout


def repository(folder: Path) -> Path:
    """Make a repository with one commit of one file."""
    repo = folder / "repo"
    repo.mkdir()
    git(repo, "init", "-q")
    git(repo, "config", "user.name", "t")
    git(repo, "config", "user.email", "t@example.com")
    (repo / "file").write_text("one")
    git(repo, "add", "file")
    git(repo, "commit", "-qm", "one")
    return repo


def command_of(words: list[str], rules: str, **more: Any) -> dict[str, Any]:
    declared = {"rules": rules, **more}
    return {"command": words[0], "args": words[1:], "transactions": declared}


@pytest.mark.parametrize("ends", ["rolled back", "denied"])
def test_what_was_done_to_a_repository_is_undone(tmp_path: Path, ends: str) -> None:
    repo = repository(tmp_path)
    (repo / "file").write_text("two")
    words = [*pypi_server("git"), "--repository", str(repo)]
    bench = Bench(tmp_path, {"git": command_of(words, "git", folders=[str(repo)])})

    def stands() -> list[str]:
        told = [
            git(repo, *words) for words in (("log", "--all", "--format=%H %D"), ("status", "-s"))
        ]
        return [*told, git(repo, "diff", "--cached"), git(repo, "reflog")]

    before, path = stands(), {"repo_path": str(repo)}

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "git__git_status", **path, transaction_id=tx)
            await asked(client, "git__git_add", **path, files=["file"], transaction_id=tx)
            await asked(client, "git__git_commit", **path, message="two", transaction_id=tx)
            branch = {"branch_name": "topic"}
            await asked(client, "git__git_create_branch", **path, **branch, transaction_id=tx)
            assert "two" in git(repo, "log", "--format=%s")
            assert "topic" in git(repo, "branch")
            told = await client.call_tool(
                "git__git_checkout", {**path, **branch, "transaction_id": tx}
            )
            assert told.is_error  # Nothing is declared about it, and nobody can be asked here.
            status = (await asked(client, "tx_status", transaction_id=tx)).structured_content
            assert [one["tool"] for one in status["waits_for_an_approval"]] == ["git__git_checkout"]
            if ends == "rolled back":
                await asked(client, "tx_rollback", transaction_id=tx)
            else:
                step = status["waits_for_an_approval"][0]["step_id"]
                bench.cli("deny", tx, step, "--by", "ann", "--note", "no")
                await client.call_tool("tx_commit", {"transaction_id": tx})

    run(main())
    # Whoever denies a step sends the whole back.
    assert stands() == before
    assert git(repo, "fsck", "--no-dangling") == ""


def test_what_is_committed_to_a_repository_stands(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q")
    git(repo, "config", "user.name", "t")
    git(repo, "config", "user.email", "t@example.com")
    (repo / "file").write_text("one")
    words = [*pypi_server("git"), "--repository", str(repo)]
    bench = Bench(tmp_path, {"git": command_of(words, "git", folders=[str(repo)])})
    path = {"repo_path": str(repo)}

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "git__git_add", **path, files=["file"], transaction_id=tx)
            await asked(client, "git__git_commit", **path, message="one", transaction_id=tx)
            await asked(client, "tx_commit", transaction_id=tx)

    run(main())
    assert git(repo, "log", "--format=%s") == "one\n"


def test_what_was_written_to_a_database_is_undone_to_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as made:
        made.execute("create table t (a)")
        made.execute("insert into t values (1)")
    made.close()
    before = file.read_bytes()
    words = [*pypi_server("sqlite"), "--db-path", str(file)]
    bench = Bench(tmp_path, {"db": command_of(words, "sqlite", files=[str(file)])})

    def rows() -> list[tuple[Any, ...]]:
        with sqlite3.connect(file) as looking:
            found = looking.execute("select a from t order by a").fetchall()
        looking.close()
        return found

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            for query in ("insert into t values (2)", "delete from t where a = 1"):
                await asked(client, "db__write_query", query=query, transaction_id=tx)
            await asked(client, "db__create_table", query="create table u (b)", transaction_id=tx)
            told = await asked(client, "db__read_query", query="select * from t", transaction_id=tx)
            assert "2" in text(told)
            assert rows() == [(2,)]
            await asked(client, "tx_rollback", transaction_id=tx)
            assert file.read_bytes() == before
            tx = await begun(client)
            query = "insert into t values (3)"
            await asked(client, "db__write_query", query=query, transaction_id=tx)
            await asked(client, "tx_commit", transaction_id=tx)
            assert rows() == [(1,), (3,)]

    run(main())


def test_what_is_fetched_is_journaled_as_what_was_read(tmp_path: Path) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.end_headers()
            self.wfile.write(b"a page of this test")

        def log_message(self, *_arguments: object) -> None:
            pass

    words = [*pypi_server("fetch"), "--ignore-robots-txt"]
    bench = Bench(tmp_path, {"web": command_of(words, "fetch")}, {"policy": "deny"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"

        async def main() -> None:
            async with bench.stdio() as client:
                tx = await begun(client)
                result = await client.call_tool("web__fetch", {"url": url, "transaction_id": tx})
                # It refuses addresses of this machine in some releases; both are its own answer.
                assert "a page of this test" in text(result) or result.is_error
                told = (await asked(client, "tx_status", transaction_id=tx)).structured_content
                assert [one["tool"] for one in (*told["done"], *told["failed"])] == ["web__fetch"]
                ended = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
                assert ended["cannot_be_undone"] == []
                assert await refused(client, "web__fetch", url=url, transaction_id=tx)

        run(main())
        server.shutdown()
        thread.join()
