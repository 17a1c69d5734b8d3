"""Who gets in, by which name, from where, and how much may be sent: with raw bytes."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.served import Answer, Served, answer_of, refused_to_start, served

from aumai_transactions.errors import DefinitionError
from aumai_transactions.web.connections import CONNECTIONS_MAX, HEAD_SECONDS_MAX
from aumai_transactions.web.gate import BODY_BYTES_MAX
from aumai_transactions.web.principals import Tokens

PRIVATE = "/api/v1/transactions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("doors"), "--allow-actions") as running:
        yield running


@pytest.fixture(scope="module")
def token(server: Served) -> str:
    return server.token("reader")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def get(server: Served, path: str, *lines: str, host: str | None = "") -> Answer:
    """Ask with these header lines, and with this Host: its own one for "", none for None."""
    own = server.name if host == "" else host
    head = [f"GET {path} HTTP/1.1"]
    head += [] if own is None else [f"Host: {own}"]
    return server.raw("\r\n".join([*head, *lines, "", ""]).encode("latin-1"))


@pytest.mark.parametrize("path", ["/healthz", "/", "/login", PRIVATE, "/metrics", "/static/x"])
def test_no_path_is_reached_under_another_name(server: Served, path: str) -> None:
    port = server.port
    foreign = ["evil.com", f"127.0.0.1.evil.com:{port}", "localhost:1", f"LOCALHOST:{port}"]
    foreign += [f"localhost.:{port}", "127.0.0.1", f"127.0.0.1:{port}.", f"evil@127.0.0.1:{port}"]
    foreign += [f"0.0.0.0:{port}", f"127.1:{port}", f"[::ffff:127.0.0.1]:{port}", ""]
    for host in foreign:
        answer = get(server, path, host=host or " ")
        assert answer.status in (400, 421), (host, answer)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_its_own_names_are_answered_to(server: Served, host: str) -> None:
    assert get(server, "/healthz", host=f"{host}:{server.port}").status == 200


def test_a_name_that_is_missing_or_given_twice_is_refused(server: Served) -> None:
    assert get(server, "/healthz", host=None).status == 400
    assert get(server, "/healthz", f"Host: {server.name}").status == 400
    assert get(server, "/healthz", "Host: evil.com").status == 400


def test_an_absolute_form_opens_nothing(server: Served) -> None:
    answer = get(server, f"http://evil.com{PRIVATE}")
    assert answer.status == 400


@pytest.mark.parametrize(
    "path",
    [
        *("/healthz/", "//healthz", "/healthz%2f..", "/%68ealthz", "/HEALTHZ", "/healthz%00"),
        *("/healthz/..", "/api/../healthz", "/healthz;x", "/login/", "/%6cogin", "/api/v1/healthz"),
        *("/static/../healthz", "/static/%2e%2e/healthz", "/metrics/", "/Api/v1/transactions"),
        *("/api/v1/transactions/healthz", "/api/x/..;/healthz", "/login%2f..%2f", "/static/"),
    ],
)
def test_no_spelling_of_a_path_gets_by_the_gate(server: Served, path: str) -> None:
    answer = get(server, path)
    assert answer.status in (303, 401, 414), answer
    if answer.status == 303:
        assert (answer.header("location") or "").startswith("/login?next=%2F")


NEARLY = [
    *("", "Bearer", "Bearer ", "Basic cmVhZGVyOg==", "Bearer x", "bearer null", "Token {}"),
    *("Bearer {}x", "Bearer x{}", "Bearer  {}", "{}", "Bearer {half}", "Bearer \u00e4\u00f6\u00fc"),
    "Bearer " + "x" * 20_000,
]


@pytest.mark.parametrize("half", [0, 1])
def test_what_is_not_quite_a_token_opens_nothing(tmp_path: Path, half: int) -> None:
    # Why servers of their own: wrong tokens are counted.
    with served(tmp_path) as server:
        token = server.token("reader")
        assert get(server, PRIVATE, f"Authorization: Bearer {token}").status != 401
        for given in NEARLY[half::2]:
            line = given.replace("{half}", token[:20]).replace("{}", token)
            answer = get(server, PRIVATE, f"Authorization: {line}")
            assert answer.status == 401, (given, answer)
            assert json.loads(answer.body)["type"].endswith("unauthorized")
            assert answer.header("www-authenticate")


def test_a_token_of_one_server_opens_no_other(server: Served, tmp_path: Path) -> None:
    with served(tmp_path) as other:
        stranger = other.token("stranger", "--scope", "admin")
    assert server.ask(PRIVATE, headers=bearer(stranger)).status == 401


def test_a_token_that_was_taken_away_opens_nothing_from_then_on(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        kept, token = server.token("kept"), server.token("short")
        assert server.ask(PRIVATE, headers=bearer(token)).status != 401
        text = json.loads(server.tokens.read_text())
        assert token not in json.dumps(text)
        text["tokens"] = [one for one in text["tokens"] if one["name"] != "short"]
        beside = server.tokens.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(text))
        beside.replace(server.tokens)
        assert server.ask(PRIVATE, headers=bearer(token)).status == 401
        assert server.ask(PRIVATE, headers=bearer(kept)).status != 401


def test_wrong_tokens_are_counted_and_a_right_one_is_never_kept_out(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        token = server.token("reader")
        seen = [server.ask(PRIVATE, headers=bearer(f"wrong-{n}")).status for n in range(15)]
        assert seen[:10] == [401] * 10
        assert 429 in seen[10:]
        assert server.ask(PRIVATE, headers=bearer(token)).status not in (401, 429)


@pytest.mark.parametrize("origin", ["null", "http://evil.com", "http://127.0.0.1", "https://{}"])
def test_another_sites_page_may_ask_for_nothing(server: Served, token: str, origin: str) -> None:
    own = origin.replace("{}", server.name)
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        answer = server.ask(PRIVATE, method, {**bearer(token), "Origin": own})
        assert answer.status == 403, answer
        assert answer.header("access-control-allow-origin") is None


def test_a_browser_that_says_that_another_site_asks_is_believed(server: Served, token: str) -> None:
    for site in ("cross-site", "same-site"):
        answer = server.ask(PRIVATE, "POST", {**bearer(token), "Sec-Fetch-Site": site})
        assert answer.status == 403
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert server.ask("/", headers=link).status == 303
        assert server.ask("/login", "POST", link).status == 403


def test_no_preflight_is_answered(server: Served) -> None:
    headers = {"Origin": f"http://{server.name}", "Access-Control-Request-Method": "POST"}
    answer = server.ask(PRIVATE, "OPTIONS", headers)
    assert answer.status == 405
    assert not [name for name, _ in answer.headers if name.startswith("access-control")]


EVERY = ["/healthz", "/", "/login", "/nowhere", PRIVATE, "/api/v1/nowhere", "/metrics", "/x%00"]


@pytest.mark.parametrize("path", EVERY)
def test_every_answer_has_the_headers(server: Served, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "TRACE"):
        answer = server.ask(path, method)
        policy = answer.header("content-security-policy") or ""
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("cross-origin-resource-policy") == "same-origin"
        assert answer.header("cross-origin-opener-policy") == "same-origin"
        assert answer.header("cache-control") == "no-store"
        assert answer.header("server") == "aumai-transactions"
        assert method != "HEAD" or answer.body == b""


def test_too_large_a_body_is_refused_before_it_is_read(server: Served, token: str) -> None:
    head = f"POST {PRIVATE} HTTP/1.1\r\nHost: {server.name}\r\nAuthorization: Bearer {token}\r\n"
    kind = "Content-Type: application/json\r\n"
    said = f"{head}{kind}Content-Length: {BODY_BYTES_MAX + 1}\r\n\r\n"
    assert server.raw(said.encode()).status == 413
    assert server.raw(f"{head}{kind}Content-Length: {10**30}\r\n\r\n".encode()).status in (400, 413)
    assert server.raw(f"{head}{kind}Content-Encoding: gzip\r\n\r\n".encode()).status == 415


def test_a_body_without_end_is_cut_off(server: Served) -> None:
    token = server.token("endless", "--scope", "admin")
    head = f"POST {PRIVATE} HTTP/1.1\r\nHost: {server.name}\r\nAuthorization: Bearer {token}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with server.connect() as link:
        link.sendall(head.encode())
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 4 * BODY_BYTES_MAX:
                link.sendall(chunk)
                sent += len(chunk)
        # How much a socket holds that nobody reads is the system's; it is no fraction of a body.
        assert sent < 4 * BODY_BYTES_MAX or answer_of(link).status == 413


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Content-Length: -1",),
        ("Content-Length: 5\r\n folded: yes",),
        ("Content Length: 5",),
        ("X: a\0b",),
        ("X" * 40_000 + ": 1",),
    ],
)
def test_no_request_hides_in_another_one(server: Served, lines: tuple[str, ...]) -> None:
    hidden_one = f"GET /healthz HTTP/1.1\r\nHost: {server.name}\r\n\r\n"
    body = f"0\r\n\r\n{hidden_one}"
    head = [f"POST {PRIVATE} HTTP/1.1", f"Host: {server.name}", *lines, "", body]
    with server.connect() as link:
        link.sendall("\r\n".join(head).encode())
        link.shutdown(socket.SHUT_WR)
        answers = b""
        with contextlib.suppress(ConnectionError):
            while some := link.recv(65_536):
                answers += some
    assert b"200 OK" not in answers
    assert not answers or answers.startswith(b"HTTP/1.1 4"), answers[:200]


def test_connections_that_only_connect_keep_nobody_out(server: Served) -> None:
    with contextlib.ExitStack() as idle:
        for number in range(1_000):
            link = idle.enter_context(server.connect())
            if number % 2:
                link.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        assert server.ask("/healthz").status == 200
    assert CONNECTIONS_MAX < 1_000


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(server: Served) -> None:
    with server.connect() as link:
        link.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        link.settimeout(0.5)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 10 * HEAD_SECONDS_MAX:
                try:
                    if link.recv(1) == b"":
                        break
                except TimeoutError:
                    link.sendall(b"x")
                    sent += 1
    assert sent < 10 * HEAD_SECONDS_MAX


def test_one_that_is_being_answered_is_not_closed_for_new_ones(server: Served, token: str) -> None:
    with server.connect() as asking, contextlib.ExitStack() as idle:
        head = f"POST {PRIVATE} HTTP/1.1\r\nHost: {server.name}\r\nAuthorization: Bearer {token}"
        asking.sendall(f"{head}\r\nContent-Length: 2\r\n\r\n".encode())
        for _ in range(CONNECTIONS_MAX + 50):
            idle.enter_context(server.connect())
        assert server.ask("/healthz").status == 200
        asking.sendall(b"{}")
        assert answer_of(asking).status in (403, 404, 405, 422)


def test_the_file_of_tokens_is_its_owners_and_holds_none(server: Served, token: str) -> None:
    assert stat.S_IMODE(server.tokens.stat().st_mode) == 0o600
    assert token not in server.tokens.read_text()


def test_a_file_of_tokens_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        server.token("one")
    tokens = tmp_path / "tokens.json"
    tokens.chmod(0o644)
    found = refused_to_start(tmp_path, "--tokens", str(tokens), "--http", "127.0.0.1:0")
    assert found.returncode == 2
    assert "chmod 600" in found.stderr


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tokens": [1]}', '{"tokens": [{"name": "x"}]}'])
def test_a_file_that_is_none_of_tokens_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(DefinitionError, match=re.escape(str(path))):
        Tokens(path).read()


@pytest.mark.parametrize("host", ["0.0.0.0:0", "[::]:0"])
def test_the_world_is_let_in_over_tls_only(server: Served, tmp_path: Path, host: str) -> None:
    shutil.copy(server.home / "store.db", tmp_path)
    found = refused_to_start(tmp_path, "--http", host)
    assert found.returncode == 2
    assert "--behind-tls-proxy" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_token_stands_in_no_process_list_and_in_nothing_that_is_said(server: Served) -> None:
    token = server.token("unseen")
    assert server.ask(PRIVATE, headers=bearer(token)).status != 401
    words = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    assert token not in words
    assert token not in " ".join(server.said)


def test_on_a_unix_socket_only_its_owner_gets_in(tmp_path: Path) -> None:
    with served(tmp_path):
        pass
    path = tmp_path / "s"
    with served(tmp_path, "--unix", str(path)):
        mode = path.stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer_of(link).status == 200
    assert not path.exists()


def test_the_metrics_are_for_those_who_may_see_all_of_them(server: Served, token: str) -> None:
    answer = server.ask("/metrics", headers=bearer(token))
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("text/plain; version=")
    assert b'aumai_transactions{state="pending"} 1\n' in answer.body
    north = server.token("north", "--tenant", "north")
    assert server.ask("/metrics", headers=bearer(north)).status == 403
