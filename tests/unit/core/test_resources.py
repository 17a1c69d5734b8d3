"""Resources: the aliases of one thing are one lock, and no name breaks anything."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aumai_transactions.core.resources import canonical_resource
from aumai_transactions.errors import InvalidData


@pytest.mark.parametrize(
    "aliases",
    [
        ("account:42", "Account:42", " ACCOUNT:42 ", "account: 42"),
        (
            "https://shop.example/orders/7",
            "HTTPS://Shop.Example:443/orders/7",
            "https://shop.example/orders/7/",
            "https://shop.example//orders/./7",
            "https://shop.example/orders/6/../7",
            "https://shop.example/%6Frders/7",
            "https://shop.example/%256Frders/7",
            "https://user:word@shop.example/orders/7#top",
            "https://shop.example./orders/7",
            "https://shop.example\\orders\\7",
        ),
        ("http://a.example", "http://a.example/", "http://A.EXAMPLE:80", "http://a.example:"),
        ("ws://a.example:80/x", "ws://a.example/x"),
        ("https://a.example/?q=A", "https://a.example?Q=%61"),
        (
            "/srv/data/a.txt",
            "file:///srv/data/a.txt",
            "file:/srv/data/a.txt",
            "/srv//data/./a.txt",
            "/srv/other/../data/a.txt",
            "/SRV/Data/A.TXT",
            "/srv/data/a.txt/",
            "/srv/data/%61.txt",
            "file:///srv/data/%2561.txt",
        ),
        ("C:\\Data\\a.txt", "c:/data/a.txt", "file:///C:/Data/a.txt", "/c:/data/x/../a.txt"),
        ("./a/b", ".\\a\\b", "file:a/b", "./a/c/../b"),
        ("../a", "..\\a", "./../a"),
        ("caf\u00e9:1", "cafe\u0301:1", "CAF\u00c9:1"),
        ("stra\u00dfe:1", "STRASSE:1"),
    ],
    ids=lambda aliases: aliases[0],
)
def test_the_aliases_of_one_thing_are_one_resource(aliases):
    assert {canonical_resource(name) for name in aliases} == {canonical_resource(aliases[0])}


@pytest.mark.parametrize(
    "one,other",
    [
        ("account:42", "account:43"),
        ("account:Ab", "account:aB"),
        ("account:42", "account42"),
        ("account:42", "order:42"),
        ("account:/a", "account:/a/"),
        ("http://a.example/x", "https://a.example/x"),
        ("http://a.example:8080/x", "http://a.example/x"),
        ("http://a.example:443/x", "http://a.example/x"),
        ("https://a.example/x", "https://b.example/x"),
        ("https://a.example/x?id=1", "https://a.example/x?id=2"),
        ("/srv/a", "srv/a"),
        ("/srv/a", "./srv/a"),
        ("../a", "a"),
        ("../../a", "../a"),
        ("/a b", "/ab"),
        ("plain", "Plain"),
    ],
)
def test_what_is_surely_not_the_same_is_two_resources(one, other):
    assert canonical_resource(one) != canonical_resource(other)


@pytest.mark.parametrize(
    "name,form",
    [
        ("account:42", "account:42"),
        ("RATE:usd/EUR", "rate:usd/EUR"),
        ("https://Shop.example/a/../b", "https://shop.example/b"),
        ("/srv/../../etc", "file:/etc"),
        ("a:b:c", "a:b:c"),
        ("file:", "file:"),
    ],
)
def test_a_resource_is_kept_in_a_form_that_people_can_read(name, form):
    assert canonical_resource(name) == form


@pytest.mark.parametrize(
    "name",
    ["", "   ", ":", " : ", "::", None, 42, b"a:1", ["a"], "a\x00b", "x\ud800y", "x" * 1_001],
    ids=repr,
)
def test_what_names_nothing_is_refused(name):
    with pytest.raises(InvalidData):
        canonical_resource(name)


def test_a_form_that_would_be_longer_than_a_name_may_be_is_refused():
    with pytest.raises(InvalidData, match="longer than 1,000 characters"):
        canonical_resource("\u00df" * 900 + ":1")


@pytest.mark.parametrize(
    "name",
    [
        "%" * 900,
        "https://[::1]:443/x",
        "https://%2e%2e/%2e%2e",
        "file:%00",
        "account:%0a",
        "http://",
        "http:///",
        "//host/share",
        "a://b://c",
        "\u202eaccount:42",
        "account:\u200b42",
        "/" * 1_000,
        "%25" * 330,
        "~/x",
        "'; DROP TABLE locks; --:1",
    ],
)
def test_a_hostile_name_has_a_form_or_is_refused_and_the_form_stays_one(name):
    try:
        form = canonical_resource(name)
    except InvalidData:
        return
    assert canonical_resource(form) == form


PIECES = st.sampled_from(
    [
        *("file", "FILE:", "\ufb01le:", "http://", "HTTPS://", "ws:", "c:", "C:\\", "account:"),
        *(
            ":",
            "/",
            "//",
            "\\",
            ".",
            "..",
            "./",
            "../",
            "~",
            "%2e",
            "%2F",
            "%252e",
            "%41",
            "%c3%a9",
        ),
        *("%ff", "?", "#", "@", "a", "B", "\u00df", "e\u0301", "\u0345", "\u0130", " ", "\u00a0"),
        *(":80", ":443"),
    ]
)
NAMES = st.lists(PIECES, min_size=1, max_size=8).map("".join) | st.text(min_size=1, max_size=12)


@given(NAMES)
@example("\ufb01le:A/../B")
@example(" http ://X")
@example("http:\u00a0//X")
@example("c :/x")
def test_the_form_of_a_form_is_that_form(name):
    try:
        form = canonical_resource(name)
    except InvalidData:
        return
    assert canonical_resource(form) == form
