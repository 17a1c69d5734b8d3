"""The static files: whose they are, and that nothing else is to be had."""

import hashlib
import re
from importlib.resources import files

import pytest

from aumai_transactions.web.pages import static_files

FOLDER = files("aumai_transactions.web.pages") / "static"


def test_what_others_wrote_is_unchanged():
    told = re.findall(
        r"^([0-9a-f]{64})  (\S+)", (FOLDER / "VENDORED").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(name for _, name in told) == ["htmx.min.js", "hx-sse.min.js"]
    for digest, name in told:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest


def test_every_static_file_is_on_the_list_and_is_whole():
    ours = {one.name for one in FOLDER.iterdir()} - {"VENDORED"}
    assert ours == set(static_files.KINDS) - {"timeline.css"}


def test_no_page_has_a_script_a_style_or_a_handler_of_its_own():
    templates = files("aumai_transactions.web.pages") / "templates"
    for template in templates.iterdir():
        text = template.read_text("utf-8")
        assert not re.search(r"<style|\bstyle=|\son\w+=|javascript:|\|\s*safe\b|<script>", text), (
            template.name
        )
    script = (FOLDER / "page.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|eval\(|Function\(", script)


def test_htmx_does_not_begin_before_its_part_for_streams_is_there():
    frame = files("aumai_transactions.web.pages") / "templates" / "frame.html"
    scripts = re.findall(r"<script[^>]*>", frame.read_text("utf-8"))
    assert [one for one in scripts if "defer" in one or "async" in one] == []
    named = [re.findall(r"'(.+)'", one) for one in scripts]
    assert named == [["page.js"], ["htmx.min.js"], ["hx-sse.min.js"]]


def test_a_static_file_is_kept_for_a_year_by_the_address_that_has_its_digest(shown):
    address = static_files.address("page.css")
    answer = shown.get(address, cookie="")
    assert answer.status == 200
    assert "immutable" in answer.header("cache-control")
    tag = answer.header("etag")
    again = shown.server.ask(address, headers={"if-none-match": tag})
    assert again.status == 304
    assert "no-cache" in shown.get("/static/page.css", cookie="").header("cache-control")


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/VENDORED",
        "/static/../endpoints.py",
        "/static/..%2fendpoints.py",
        "/static/page.css/",
    ],
)
def test_nothing_else_is_to_be_had_there(shown, path):
    assert shown.get(path).status in (303, 404)
    assert shown.get(path, cookie="").status in (303, 404)
