import re
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aumai_transactions.participants.address import (
    allowed_host,
    is_allowed,
    parsed_address,
)
from aumai_transactions.participants.exchange import parsed_url
from aumai_transactions.participants.template import UnfitValue

URL = "https://api.example:8443/v1/flights/{data.id}/seats-{data.seat}?who={data.who}&key={key}"


def target(url, **data):
    return parsed_address(url).target({"data": data, "key": "tx/s/action"})


# ------------------------------------------------------------------------------ what it becomes


@pytest.mark.parametrize(
    "url,wanted",
    [
        ("http://h", "/"),
        ("http://h/", "/"),
        ("http://h?x=y", "/?x=y"),
        ("http://h//a/../b?x?y", "//a/../b?x?y"),
        ("http://h/%7Eme;v=1?a=%20b", "/%7Eme;v=1?a=%20b"),
        ("http://h/{{x}}?{{y}}", "/%7Bx%7D?%7By%7D"),
        ("http://h/{data.id}", "/F1"),
        ("http://h/a{data.id}b/{data.n}", "/aF1b/7"),
        ("http://h/?{data.id}={data.n}", "/?F1=7"),
        ("http://h?k={key}", "/?k=tx%2Fs%2Faction"),
        ("http://h/by-key/{key}", "/by-key/tx%2Fs%2Faction"),
        ("http://h/{data.name ü?#@}", "/odd"),
        ("http://h/x/{data.space}", "/x/a%20b"),
        (
            "http://h/x?q={data.hostile}",
            "/x?q=%2F..%2F%3Fa%3Db%26c%23d%0D%0A%C3%BC%2B%7Bdata.id%7D",
        ),
        ("http://h/x/{data.dots}", "/x/..."),
        ("http://h/x/{data.dotted}.json", "/x/...json"),
    ],
)
def test_a_url_is_filled_in_and_stays_one_url(url, wanted):
    data = {
        "id": "F1",
        "n": 7,
        "name ü?#@": "odd",
        "space": "a b",
        "hostile": "/../?a=b&c#d\r\nü+{data.id}",
        "dots": "...",
        "dotted": "..",
    }
    assert target(url, **data).request_target == wanted


@pytest.mark.parametrize(
    "url,told",
    [
        ("{data.scheme}://h/", "scheme, host and port are fixed"),
        ("http{{s}}://h/", "scheme, host and port are fixed"),
        ("http://{data.host}/", "scheme, host and port are fixed"),
        ("http://{data.host/x}/", "scheme, host and port are fixed"),
        ("http://a.{data.tenant}.example/", "scheme, host and port are fixed"),
        ("http://h:{data.port}/", "scheme, host and port are fixed"),
        ("http://{data.user}@h/", "scheme, host and port are fixed"),
        ("http://h{data.path}", "scheme, host and port are fixed"),
        ("{data.url}", "scheme, host and port are fixed"),
        ("/{data.path}", "must begin with http"),
        ("http://h/{data.id}#{data.part}", "fragment"),
        ("http://h/{id}", "did you mean {data.id}?"),
        ("http://h/{data}", "holds {data}, which is an object; name one of its fields"),
        ("http://h/?x={data}", "holds {data}, which is an object"),
        ("http://h/{data.id", "single {"),
        ("http://h/{data.id} x", "holds a space"),
    ],
)
def test_a_url_that_cannot_be_is_refused_when_it_is_declared(url, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        parsed_address(url)


@pytest.mark.parametrize(
    "url,value,told",
    [
        ("http://h/x/{data.id}", "", "{data.id} is empty"),
        ("http://h/x?id={data.id}", "", "{data.id} is empty"),
        ("http://h/x/{data.id}", ".", 'makes a part of the path "." or ".."'),
        ("http://h/x/{data.id}/y", "..", 'makes a part of the path "." or ".."'),
        ("http://h/x/.{data.id}", ".", 'makes a part of the path "." or ".."'),
        ("http://h/x/%2e{data.id}", ".", 'makes a part of the path "." or ".."'),
        ("http://h/x/{data.id};v=1", "..", 'makes a part of the path "." or ".."'),
        ("http://h/x/{data.id}", "a/b", "{data.id} holds a / or a \\"),
        ("http://h/x/{data.id}", "..\\..\\etc", "{data.id} holds a / or a \\"),
        ("http://h/x/{data.id}", "\ud800", "{data.id} is not valid text"),
        ("http://h/x/{data.id}", "x" * 4_001, "longer than 4,000 characters"),
        ("http://h/x?q={data.id}", "ü" * 1_000, "longer than 4,000 characters"),
        ("http://h/x/{data.id}", None, "{data.id} is null"),
        ("http://h/x/{data.id}", ["a"], "{data.id} is a list"),
        ("http://h/x/{data.id}", {"a": 1}, "{data.id} is an object"),
        ("http://h/x/{data.other}", "x", "{data.other} leads to nothing"),
    ],
)
def test_a_value_that_would_change_the_url_is_refused_by_name(url, value, told):
    with pytest.raises(UnfitValue) as caught:
        target(url, id=value)
    assert told in str(caught.value)


HOSTILE = st.text() | st.text(alphabet="/\\.%2eE?#&=@:;{}\r\n\t\0 ü\u2028") | st.integers()


@given(seat=HOSTILE, who=HOSTILE, identity=HOSTILE)
def test_no_value_can_change_where_a_request_goes(identity, seat, who):
    try:
        found = target(URL, id=identity, seat=seat, who=who)
    except UnfitValue:
        return
    base = parsed_address(URL).base
    assert (found.scheme, found.host, found.port) == (base.scheme, base.host, base.port)
    assert found.authority == "api.example:8443"
    # What a reader of the whole URL makes of it, and one that decodes before it looks.
    again = parsed_url(f"https://api.example:8443{found.request_target}")
    assert again == found
    for path in (found.path, unquote(found.path)):
        parts = path.split("/")
        assert len(parts) == 5
        assert parts[:3] == ["", "v1", "flights"]
        assert not {".", "..", ""} & set(parts[1:])
    assert [part.partition("=")[0] for part in found.query.split("&")] == ["who", "key"]
    assert unquote(found.path) == f"/v1/flights/{identity}/seats-{seat}"


@given(value=st.text(min_size=1))
def test_every_harmless_value_arrives_whole(value):
    assume(not set(value) & {"/", "\\"} and value not in (".", ".."))
    found = target("http://h/{data.id}?q={data.id}", id=value)
    assert unquote(found.path) == f"/{value}"
    assert unquote(found.query) == f"q={value}"


# --------------------------------------------------------------------------------- which hosts


@pytest.mark.parametrize(
    "host,url,allowed",
    [
        ("api.example.com", "https://api.example.com/x", True),
        ("api.example.com", "http://api.example.com:8080/x", True),
        ("API.example.com.", "https://api.Example.com/x", True),
        ("api.example.com", "https://api.example.com.evil.example/x", False),
        ("api.example.com", "https://xapi.example.com/x", False),
        ("example.com", "https://api.example.com/x", False),
        ("127.0.0.1:8101", "http://127.0.0.1:8101/", True),
        ("127.0.0.1:8101", "http://127.0.0.1:8102/", False),
        ("h:443", "https://h/", True),
        ("h:80", "https://h/", False),
        ("[::1]", "http://[::1]:5/", True),
        ("[0:0::1]:5", "http://[::1]:5/", True),
        ("[::1]:6", "http://[::1]:5/", False),
    ],
)
def test_a_host_covers_itself_on_its_port_or_on_all(host, url, allowed):
    assert is_allowed(parsed_url(url), [host]) is allowed


def test_no_host_covers_nothing():
    assert is_allowed(parsed_url("http://h/"), []) is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://h",
        "h/x",
        "*.example.com",
        "h:",
        "h:x",
        "h:0",
        "h:70000",
        "u@h",
        "::1",
        "[::1",
        "[fe80::1%eth0]",
        "0x7f.1",
        "127.1",
        "a b",
        "h\n",
        "bücher.example",
        "{data.host}",
    ],
)
def test_what_is_no_host_is_refused(text):
    with pytest.raises(ValueError, match=r"host|port|address") as caught:
        allowed_host(text)
    assert str(caught.value).isprintable()
