"""One HTTP request and its answer, bounded in time and size.

Owns: the wire, and the line between "nothing was sent" and "something may have been sent".
Rules:
  1. `NotSent` is raised only while not one byte of the request has left. Everything that goes
     wrong later, whatever it is, is `AnswerLost`.
  2. One deadline covers connecting, TLS, sending and reading: a peer that trickles its bytes
     gets no more time than one that is silent. Only the system's name resolution is
     outside it, because nothing can interrupt that.
  3. No redirect is followed, no proxy of the environment is used, TLS certificates are verified.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES = 65_536
ERROR_BODY_BYTES_MAX = 65_536
URL_CHARACTERS_MAX = 4_000

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")
_ENDS_IN_A_NUMBER = re.compile(r"(^|\.)([0-9]+|0[xX][0-9A-Fa-f]*)\.?$")


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotSent(Exception):
    """Say that the request did not leave this machine."""


class AnswerLost(Exception):
    """Say that the request may have arrived, and that no answer can be relied on."""


@dataclass(slots=True, frozen=True)
class Target:
    """Hold where a request goes: the parts of a URL that was checked."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def is_encrypted(self) -> bool:
        """True for https."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the usual one, as a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.is_encrypted else 80
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL for people: without its query, which may hold a secret."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def request_target(self) -> str:
        """What stands in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(slots=True, frozen=True)
class Answer:
    """Hold an answer.

    Args:
        status: The status code.
        reason: The text beside it.
        headers: The headers, names in lower case.
        body: What was read of the body.
        damage: Why the body is not all of what was meant; None where it is whole.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    damage: str | None = None


def parsed_url(url: str) -> Target:
    """Return the parts of a URL.

    Raises:
        ValueError: It is not a plain http or https URL; the text says what to change.
    """
    if len(url) > URL_CHARACTERS_MAX:
        message = f"is longer than {URL_CHARACTERS_MAX:,} characters"
        raise ValueError(message)
    if re.search(r"[^\x21-\x7e]|\\", url):
        message = (
            "holds a space, a control character, a backslash or a letter outside ASCII; "
            "percent-encode it, and write an international host name as xn--…"
        )
        raise ValueError(message)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        message = "must begin with http:// or https://"
        raise ValueError(message)
    if "@" in parts.netloc:
        message = "must not hold a user name or a password; send them in a header"
        raise ValueError(message)
    if "#" in url:
        message = "must not have a fragment (#…); it is never sent"
        raise ValueError(message)
    host = _checked_host(parts.hostname or "", is_bracketed="[" in parts.netloc)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        message = "has a port that is not a number from 1 to 65535"
        raise ValueError(message)
    usual = 443 if parts.scheme == "https" else 80
    return Target(parts.scheme, host, port or usual, parts.path or "/", parts.query)


def exchange(
    target: Target,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    timeout_seconds: float,
    body_bytes_max: int,
    public_only: bool = False,
) -> Answer:
    """Send one request and return its answer.

    Args:
        target: Where to.
        method: The HTTP method.
        headers: Headers, checked by the caller.
        body: The body, or None for none.
        timeout_seconds: How long everything together may take.
        body_bytes_max: How much of the body of a 2xx answer is read.
        public_only: True where no address of this machine or of a private network is connected to,
            whatever the host's name leads to.

    Raises:
        NotSent: Nothing left this machine.
        AnswerLost: Something may have arrived, and there is no answer to rely on.
    """
    deadline = _Deadline(time.monotonic() + timeout_seconds, timeout_seconds)
    connected = _connected(target, deadline, public_only=public_only)
    try:
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.auto_open = 0
        connection.sock = _BoundedSocket(connected, deadline)
        try:
            connection.request(method, target.request_target, body, dict(headers))
            return _answer(connection.getresponse(), body_bytes_max)
        except TimeoutError as error:
            message = f"no answer within {timeout_seconds:g} s"
            raise AnswerLost(message) from error
        except Exception as error:
            # Why everything: the request may be out, and whatever a hostile answer breaks in
            # the parser must not be taken for "not done".
            raise AnswerLost(_described(error)) from error
    finally:
        connected.close()


def _checked_host(host: str, *, is_bracketed: bool) -> str:
    # Why so strict: 0x7f.1 and 127.1 are loopback to the resolver and a name to a reader.
    try:
        if is_bracketed:
            return str(ipaddress.IPv6Address(host.partition("%")[0] if "%" not in host else ""))
        if _ENDS_IN_A_NUMBER.search(host):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        message = f"has the host {host!r:.100}, which is not an IP address in its usual form"
        raise ValueError(message) from None
    if not _HOST.fullmatch(host):
        message = f"has the host {host!r:.100}, which is not a host name"
        raise ValueError(message)
    return host


@dataclass(slots=True, frozen=True)
class _Deadline:
    at: float
    seconds: float

    def remaining(self) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _connected(target: Target, deadline: _Deadline, *, public_only: bool) -> socket.socket:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"the name {target.host} cannot be resolved ({_described(error)})"
        raise NotSent(message) from error
    problem = "it has no address"
    if public_only:
        # Why here: what is looked up a second time may lead elsewhere.
        found = [one for one in found if is_public(str(one[4][0]))]
        problem = f"{target.host} leads to no address outside of this machine and private networks"
    for position, (family, kind, protocol, _, address) in enumerate(found):
        try:
            # Why a share: one address that swallows packets must not use up all the time.
            share = deadline.remaining() / (len(found) - position)
            return _opened(target, socket.socket(family, kind, protocol), address, share)
        except TimeoutError:
            problem = f"no connection within {deadline.seconds:g} s"
        except OSError as error:
            problem = _described(error)
    raise NotSent(problem)


def is_public(address: str) -> bool:
    """Tell whether an IP address stands in the public network."""
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    if inner is not None:
        found = inner
    # Why not NAT64: what stands behind the prefix may be any address of version 4.
    is_translated = found.version == 6 and found in _NAT64
    return found.is_global and not found.is_multicast and not is_translated


def _opened(
    target: Target, plain: socket.socket, address: Any, timeout_seconds: float
) -> socket.socket:
    until = time.monotonic() + timeout_seconds
    try:
        plain.settimeout(timeout_seconds)
        plain.connect(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not target.is_encrypted:
            return plain
        plain.settimeout(max(until - time.monotonic(), 0.001))
        return _tls_context().wrap_socket(plain, server_hostname=target.host)
    except BaseException:
        plain.close()
        raise


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _answer(response: http.client.HTTPResponse, body_bytes_max: int) -> Answer:
    is_success = 200 <= response.status < 300
    limit = body_bytes_max if is_success else min(body_bytes_max, ERROR_BODY_BYTES_MAX)
    body = bytearray()
    damage = None
    try:
        while len(body) <= limit:
            chunk = response.read(min(CHUNK_BYTES, limit + 1 - len(body)))
            if not chunk:
                break
            body += chunk
    except Exception as error:  # noqa: BLE001 (the status is known; only the body is lost)
        damage = f"its body broke off: {_described(error)}"
    if len(body) > limit:
        damage = f"its body is longer than {limit:,} bytes"
    elif damage is None and response.length:
        damage = f"its body broke off, {response.length:,} bytes are missing"
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, response.reason, headers, bytes(body[:limit]), damage)


def _described(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "the time is over"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _BoundedSocket:
    """Be as much of a socket as http.client needs; every wait ends at the deadline."""

    def __init__(self, inner: socket.socket, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Send everything, in pieces: for TLS, a timeout covers only one of them."""
        left = memoryview(data)
        while left:
            self._inner.settimeout(self._deadline.remaining())
            left = left[self._inner.send(left[:CHUNK_BYTES]) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream that the answer is read from."""
        return io.BufferedReader(_BoundedReader(self._inner, self._deadline), CHUNK_BYTES)

    def close(self) -> None:
        """Leave the socket open: the answer may still be read; `exchange` closes it."""


class _BoundedReader(io.RawIOBase):
    def __init__(self, inner: socket.socket, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._inner.settimeout(self._deadline.remaining())
        return self._inner.recv_into(buffer)
