import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

SCENES = (
    "committed", "outstanding", "in_doubt", "approval", "crash", "parked", "submitted",
)  # fmt: skip
PLAIN = ("/", "/?reason=any", "/attention", "/workers", "/health", "/?q=nothing-like-that")


def every_path(shop):
    return [*PLAIN, *(shop.path(scene) for scene in SCENES)]


OPENED = "document.querySelectorAll('details').forEach(one => { one.open = true })"
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


def test_no_page_keeps_anybody_out_in_light_or_dark(ready, open_tab):
    tab, found = open_tab(ready, reduced_motion="reduce"), {}
    # Why reduced: a colour that is still on its way from light to dark has no contrast of its own.
    stranger = open_tab(ready, cookie="", reduced_motion="reduce")
    visits = [*((tab, path) for path in every_path(ready)), (stranger, "/login?code=abc")]
    for visited, path in visits:
        assert visited.go(path).status == 200
        visited.page.evaluate(
            "document.querySelectorAll('details').forEach(one => one.open = true)"
        )
        for scheme, options in (("light", None), ("dark", CONTRAST)):
            visited.page.emulate_media(color_scheme=scheme)
            report = Axe().run(visited.page, options=options)
            if report.violations_count:
                found[path, scheme] = report.generate_report()
        visited.page.emulate_media(color_scheme="light")
    assert found == {}


def test_every_page_works_without_javascript(ready, open_tab):
    tab = open_tab(ready, java_script_enabled=False)
    page = tab.page
    tab.go("/")
    page.get_by_label("Search").fill("porto")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Trip to Porto").click()
    expect(page.locator("h1")).to_have_text("Trip to Porto")
    for path in every_path(ready):
        assert tab.go(path).status == 200


def test_no_page_is_wider_than_a_phone(ready, open_tab):
    size = {"width": 360, "height": 740}
    tab = open_tab(ready, viewport=size, is_mobile=True, has_touch=True)
    for path in every_path(ready):
        tab.go(path)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 360, path


def test_the_chips_count_and_filter(shown, open_tab):
    tab = open_tab(shown)
    tab.go("/")
    expect(tab.page.locator("tbody tr")).to_have_count(len(shown.names))
    chip = tab.page.get_by_role("link", name=re.compile("rolled back"))
    expect(chip).to_contain_text("2")
    chip.click()
    expect(tab.page.locator("tbody tr")).to_have_count(2)
    expect(tab.page.locator("tbody tr .badge")).to_have_text(["↶rolled back"] * 2)


@pytest.mark.parametrize(
    "query,titles",
    [
        ("agent=mail", ["Trip to Lisbon"]),
        ("action=search", ["Plan a visit to Lisbon", "Pay the supplier"]),
        ("meta=region%3Dus", ["Conference week"]),
        ("meta=region%3Deu,tier%3Dgold", ["Trip to Lisbon"]),
        ("age=over-1d", ["Trip to Lisbon"]),
        ("q=SUPPLIER", ["Pay the supplier"]),
        ("reason=approval", ["Pay the supplier"]),
        ("state=failed", ["Order 7699"]),
        ("state=committed&q=lisbon&agent=research", ["Plan a visit to Lisbon"]),
    ],
)
def test_the_list_is_filtered_by_what_the_address_says(shown, query, titles):
    status, _, body = shown.get(f"/?{query}")
    assert status == 200
    assert re.findall(r'<th scope="row"[^>]*><a [^>]*>([^<]*)</a>', body.decode()) == titles


@pytest.mark.parametrize("query", ["after=x", "meta=region", "after=-1"])
def test_an_address_that_makes_no_sense_is_refused_in_words(shown, query):
    status, _, body = shown.get(f"/?{query}")
    assert status == 400
    assert b"<h1>Bad request</h1>" in body


def test_a_transaction_tells_what_happened_and_what_was_undone(shown, open_tab):
    tab = open_tab(shown)
    page = tab.page
    tab.go(shown.path("outstanding"))
    said = "Rolled back because a step failed (s3: StepRejected: card declined: limit reached)"
    expect(page.locator(".outcome")).to_contain_text(said)
    expect(page.locator(".outcome")).to_contain_text("1 step undone; 1 step needs a person")
    expect(page.locator(".needs")).to_contain_text("hotels.cancel could not undo hotels.book")
    expect(page.locator("svg.aumai-tx path.join")).to_have_count(2)
    expect(page.locator(".verified")).to_contain_text("each checked against the chain")
    expect(page.get_by_text("It is rolled back already.")).to_be_visible()
    command = f"aumai-transactions retry {shown.names['outstanding']} s2 --store"
    expect(page.locator(".needs .command").first).to_contain_text(command)


def test_a_rollback_is_shown_before_it_is_asked_for(shown, open_tab):
    tab = open_tab(shown)
    tab.go(shown.path("in_doubt"))
    steps = tab.page.locator(".preview li code")
    expect(steps).to_have_text(["s3", "s2", "s1"])


def test_savepoints_and_nested_transactions_are_named(shown, open_tab):
    tab = open_tab(shown)
    tab.go(shown.path("savepoint"))
    expect(tab.page.locator(".steps")).to_contain_text("the savepoint before the hotel")
    tab.go(shown.path("nested"))
    expect(tab.page.locator(".steps")).to_contain_text("the nested transaction Side trip")


def test_the_attention_page_has_everything_that_needs_a_person_oldest_first(shown, open_tab):
    tab = open_tab(shown)
    tab.go("/attention")
    reasons = ["effect may stand", "undo halted", "in doubt", "commit stuck", "approval"]
    badges = [f"!{text}" for text in reasons[:-1]] + ["?approval"]
    expect(tab.page.locator("article .badge")).to_have_text(badges)
    expect(tab.page.locator("section", has_text="Parked").locator("tbody tr")).to_have_count(2)


def test_workers_and_locks_tell_who_is_dead_and_who_waits_for_whom(shown, open_tab):
    tab = open_tab(shown)
    tab.go("/workers")
    expect(tab.page.locator("article .tone.bad", has_text="dead")).to_have_count(2)
    lock = tab.page.locator("article", has=tab.page.get_by_text("account:42"))
    expect(lock.locator("tbody tr").nth(0)).to_contain_text("exclusive, token 1")
    expect(lock.locator("tbody tr").nth(1)).to_contain_text(f"behind {shown.names['approval']}")


def test_health_says_what_doctor_says(shown, open_tab):
    tab = open_tab(shown)
    tab.go("/health")
    expect(tab.page.locator(".outcome")).to_contain_text("are fine")
    expect(tab.page.get_by_role("row", name=re.compile("synchronous"))).to_contain_text("FULL")


def test_a_keyboard_reaches_the_content_the_search_and_a_button(shown, open_tab):
    tab = open_tab(shown)
    page = tab.page
    tab.go("/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("porto")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_an_unknown_transaction_and_an_unknown_page_are_told_in_words(shown):
    for path in ("/transactions/no-such-one", "/nowhere", "/transactions/a%2Fb"):
        status, _, body = shown.get(path)
        assert status == 404
        assert b"<h1>" in body
