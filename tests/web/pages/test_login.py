"""Logging in and out, and a server that only shows; without a browser."""

import pytest
from tests.web.browsing import opened_shop


@pytest.fixture(scope="module")
def looking(filled, tmp_path_factory):
    """A server that only shows."""
    with opened_shop(filled, tmp_path_factory.mktemp("looking") / "store", acts=False) as shop:
        yield shop


@pytest.fixture
def shop(filled, tmp_path):
    with opened_shop(filled, tmp_path / "store") as opened:
        yield opened


def test_looking_at_a_link_does_not_use_it_up(shop):
    shop.post("/login", {"do": "link"}, cookie="")
    line = shop.server.process.stderr.readline()
    code = line.strip().rpartition("code=")[2]
    for _ in range(3):
        assert shop.get(f"/login?code={code}", cookie="").status == 200
    answer = shop.post("/login", {"do": "code", "code": code}, cookie="")
    assert answer.status == 303
    again = shop.post("/login", {"do": "code", "code": code}, cookie="")
    assert again.status == 403
    assert b"works no more" in again.body


def test_the_cookie_is_for_this_server_and_for_no_script(shop):
    shop.post("/login", {"do": "link"}, cookie="")
    code = shop.server.process.stderr.readline().strip().rpartition("code=")[2]
    answer = shop.post("/login", {"do": "code", "code": code}, cookie="")
    said = answer.header("set-cookie").lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "path=/" in said


def test_wrong_codes_and_tokens_are_counted(shop):
    statuses = [
        shop.post("/login", {"do": "code", "code": "x"}, cookie="").status for _ in range(6)
    ]
    statuses += [
        shop.post("/login", {"do": "token", "token": "x"}, cookie="").status for _ in range(6)
    ]
    assert statuses[:10] == [403] * 10
    assert 429 in statuses[10:]
    assert shop.get("/").status == 200


def test_a_new_link_is_printed_where_serve_runs_and_not_often(shop):
    answers = [shop.post("/login", {"do": "link"}, cookie="") for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert all(b"code=" not in answer.body for answer in answers)


@pytest.mark.parametrize(
    "wanted,path",
    [
        ("/workers", "/workers"),
        ("/?q=a%20b", "/?q=a%20b"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("\t//evil.example", "/"),
    ],
)
def test_a_login_goes_on_to_a_page_of_this_server_only(looking, wanted, path):
    token = looking.server.token(f"t{abs(hash(wanted))}")
    form = {"do": "token", "token": token, "next": wanted}
    answer = looking.post("/login", form, cookie="")
    assert (answer.status, answer.header("location")) == (303, path)


def test_whoever_is_not_logged_in_is_led_there_and_back(looking):
    answer = looking.get("/workers?x=1", cookie="")
    assert answer.status == 303
    assert answer.header("location") == "/login?next=%2Fworkers%3Fx%3D1"
    assert (
        b'name="next" value="/workers?x=1"'
        in looking.get(answer.header("location"), cookie="").body
    )


def test_logging_out_ends_it(shop):
    assert shop.post("/logout", {"csrf": "wrong"}).status == 403
    assert shop.get("/").status == 200
    assert shop.post("/logout", {"csrf": shop.csrf()}).status == 303
    assert shop.get("/").status == 303


def test_a_server_that_only_shows_has_no_buttons_and_says_why(looking):
    for path in (looking.path("in_doubt"), "/attention"):
        text = looking.get(path).body.decode()
        assert "/ask" not in text
        assert "This server only shows." in text
        assert "aumai-transactions resolve" in text
    assert "checkbox" not in looking.get("/").body.decode()
    form = {"csrf": looking.csrf(), "do": "roll_back", "sequence": "1"}
    answer = looking.post(f"{looking.path('in_doubt')}/ask", form)
    assert answer.status == 403
    assert b"--allow-actions" in answer.body


def test_a_token_that_may_look_may_not_decide(shop):
    token = shop.server.token("reader", "--scope", "read")
    answer = shop.post("/login", {"do": "token", "token": token}, cookie="")
    cookie = answer.header("set-cookie").partition(";")[0]
    text = shop.get(shop.path("in_doubt"), cookie=cookie).body.decode()
    assert "Your token may look, and not decide." in text
    form = {"csrf": "x", "do": "roll_back", "sequence": "1"}
    assert shop.post(f"{shop.path('in_doubt')}/ask", form, cookie=cookie).status == 403
