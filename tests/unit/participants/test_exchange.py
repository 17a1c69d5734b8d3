import socket
import ssl
import subprocess
import threading

import pytest

from aumai_transactions.participants import exchange as exchange_module
from aumai_transactions.participants.exchange import (
    AnswerLost,
    NotSent,
    exchange,
    parsed_url,
)


def ask(url, *, timeout_seconds=5.0, body=b"{}", body_bytes_max=1000):
    headers = {"Host": parsed_url(url).authority}
    return exchange(
        parsed_url(url),
        "POST",
        headers,
        body,
        timeout_seconds=timeout_seconds,
        body_bytes_max=body_bytes_max,
    )


@pytest.mark.parametrize(
    "url,host,port,request_target,shown",
    [
        ("http://a.example", "a.example", 80, "/", "http://a.example/"),
        ("https://a.example/x", "a.example", 443, "/x", "https://a.example/x"),
        ("http://a:8080/x?k=s", "a", 8080, "/x?k=s", "http://a:8080/x"),
        ("HTTP://LocalHost/", "localhost", 80, "/", "http://localhost/"),
        ("http://my_service.local./x", "my_service.local.", 80, "/x", "http://my_service.local./x"),
        ("http://127.0.0.1:1/", "127.0.0.1", 1, "/", "http://127.0.0.1:1/"),
        ("http://[::1]:81/", "::1", 81, "/", "http://[::1]:81/"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/", None),
    ],
)
def test_a_plain_url_is_taken_apart(url, host, port, request_target, shown):
    target = parsed_url(url)
    assert (target.host, target.port, target.request_target) == (host, port, request_target)
    assert target.shown == (shown or url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:80/x",
        "ftp://a/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///x",
        "http://user@a/",
        "http://user:secret@a/",
        "http://good.example\\@evil.example/",
        "http://good.example@evil.example/",
        "http://a/x#y",
        "http://a/x y",
        "http://a/\r\nHost: b",
        "http://a\t.example/",
        "http://①②⑦.0.0.1/",
        "http://bücher.example/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://2130706433/",
        "http://0/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://1.2.3.4.5/",
        "http://[::1/",
        "http://[::1%25eth0]/",
        "http://[v1.x]/",
        "http://-a/",
        "http://a..b/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:x/",
        "http://a:/",
        "http://" + "a" * 64 + "/",
        "http://a/" + "x" * 5000,
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused(url):
    with pytest.raises(ValueError, match=r"."):
        parsed_url(url)


def test_a_refused_connection_means_that_nothing_was_sent():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NotSent, match="ConnectionRefusedError"):
        ask(f"http://127.0.0.1:{port}/")


def test_a_name_that_cannot_be_resolved_means_that_nothing_was_sent():
    with pytest.raises(NotSent, match=r"name nowhere\.invalid cannot be resolved"):
        ask("http://nowhere.invalid/")


def test_a_connection_that_is_not_accepted_in_time_means_that_nothing_was_sent():
    # A backlog that is full: the kernel drops further connection requests.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        try:
            with pytest.raises(NotSent, match="no connection within"):
                ask(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_seconds=0.2)
        finally:
            for client in waiting:
                client.close()


def test_the_next_address_is_tried_when_one_refuses(serve_bytes, monkeypatch):
    service = serve_bytes(b"HTTP/1.1 204 None\r\n\r\n")
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *a, **k: [(*kind, ("127.0.0.1", 1)), (*kind, ("127.0.0.1", service.port))],
    )
    assert ask("http://two.example/").status == 204


def test_a_peer_that_speaks_no_tls_gets_nothing(serve):
    seen = []
    service = serve(lambda connection, _: seen.append(connection.recv(65536)))
    with pytest.raises(NotSent):
        ask(service.url.replace("http:", "https:"), body=b'{"secret": 1}')
    assert b"secret" not in b"".join(seen)


def test_a_silent_tls_handshake_ends_at_the_deadline(serve):
    hold = threading.Event()
    service = serve(lambda *_: hold.wait(10))
    try:
        with pytest.raises(NotSent):
            ask(service.url.replace("http:", "https:"), timeout_seconds=0.2)
    finally:
        hold.set()


def test_a_certificate_that_nobody_vouches_for_gets_nothing(serve, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no openssl that makes certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    seen = []

    def behave(connection, _):
        with context.wrap_socket(connection, server_side=True) as encrypted:
            seen.append(encrypted.recv(65536))

    service = serve(behave)
    with pytest.raises(NotSent, match="SSLCertVerificationError"):
        ask(service.url.replace("http:", "https:"))
    assert seen == []


def test_certificates_and_names_are_verified():
    context = exchange_module._tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_no_proxy_of_the_environment_is_used(serve_bytes, monkeypatch):
    service = serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask(service.url).body == b"{}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"HTTP/1.1",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"SMTP ready\r\n",
        b"\x16\x03\x01garbage\x00\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_garbage_instead_of_an_answer_loses_it(content, serve_bytes):
    with pytest.raises(AnswerLost):
        ask(serve_bytes(content).url)


def test_a_reset_after_sending_loses_the_answer(serve):
    def reset(connection, _):
        connection.recv(1)
        # Closing with unread data and no linger makes the kernel send RST.
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )

    with pytest.raises(AnswerLost):
        ask(serve(reset).url)


def test_silence_after_sending_ends_at_the_deadline(serve):
    hold = threading.Event()
    service = serve(lambda *_: hold.wait(10))
    try:
        with pytest.raises(AnswerLost, match="no answer"):
            ask(service.url, timeout_seconds=0.2)
    finally:
        hold.set()


def test_a_peer_that_does_not_read_ends_at_the_deadline(serve):
    hold = threading.Event()
    service = serve(lambda *_: hold.wait(10))
    try:
        with pytest.raises(AnswerLost):
            ask(service.url, timeout_seconds=0.3, body=b"x" * 50_000_000)
    finally:
        hold.set()


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 2",
    ],
)
def test_one_byte_at_a_time_gets_no_more_time(beginning, serve):
    stop = threading.Event()

    def trickle(connection, _):
        connection.recv(65536)
        connection.sendall(beginning)
        while not stop.wait(0.02):
            connection.sendall(beginning if b"100" in beginning else b"a")

    service = serve(trickle)
    try:
        with pytest.raises(AnswerLost, match=r"no answer within 0\.3 s"):
            ask(service.url, timeout_seconds=0.3)
    finally:
        stop.set()


def test_a_body_that_trickles_is_damaged_at_the_deadline(serve):
    stop = threading.Event()

    def trickle(connection, _):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 402 No\r\nContent-Length: 100000\r\n\r\n")
        while not stop.wait(0.02):
            connection.sendall(b"a")

    service = serve(trickle)
    try:
        answer = ask(service.url, timeout_seconds=0.3)
    finally:
        stop.set()
    assert answer.status == 402
    assert "broke off" in answer.damage


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 10\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
    ],
)
def test_a_body_that_breaks_off_is_damaged(rest, serve_bytes):
    answer = ask(serve_bytes(b"HTTP/1.1 200 OK\r\n" + rest).url)
    assert answer.status == 200
    assert "broke off" in answer.damage


def test_a_chunked_body_is_put_together(serve_bytes):
    content = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    answer = ask(serve_bytes(content).url)
    assert (answer.body, answer.damage) == (b"{}", None)


@pytest.mark.parametrize("size,is_damaged", [(1000, False), (1001, True)])
def test_a_body_is_read_up_to_the_limit(size, is_damaged, serve_bytes):
    answer = ask(serve_bytes(b"HTTP/1.0 200 OK\r\n\r\n" + b"a" * size).url)
    assert len(answer.body) == 1000
    assert (answer.damage is not None) is is_damaged


def test_of_an_error_only_the_beginning_is_read(serve_bytes):
    content = b"HTTP/1.1 402 No\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1_000_000
    answer = ask(serve_bytes(content).url, body_bytes_max=10_000_000)
    assert len(answer.body) == exchange_module.ERROR_BODY_BYTES_MAX


def test_an_endless_body_is_not_read_to_its_end(serve):
    stop = threading.Event()

    def flood(connection, _):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stop.is_set():
            connection.sendall(b"a" * 65536)

    try:
        answer = ask(serve(flood).url)
    finally:
        stop.set()
    assert answer.damage == "its body is longer than 1,000 bytes"
