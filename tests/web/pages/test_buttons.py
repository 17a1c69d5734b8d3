"""Every button: what it asks for, who is named for it, and what is told when it cannot be."""

import json
import re
import subprocess
import sys

import pytest
from playwright.sync_api import expect


def events(shop, scene):
    command = [sys.executable, "-m", "aumai_transactions", "show", shop.names[scene], "--events"]
    command += ["--json", "--store", str(shop.server.home / "store.db")]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


def last(shop, scene, kind):
    return next(event for event in reversed(events(shop, scene)) if event["kind"] == kind)


def who(shop):
    import getpass

    return getpass.getuser()


@pytest.mark.parametrize(
    "scene,button,kind,answer,ends",
    [
        ("outstanding", "Nothing of it is left", "resolution_given", "undone", "rolled back"),
        ("outstanding", "Leave it in place", "resolution_given", "left_in_place", "rolled back"),
        ("in_doubt", "It happened", "resolution_given", "happened", "committed"),
        ("in_doubt", "It did not happen", "resolution_given", "did_not_happen", "rolled back"),
        ("stuck", "It happened", "resolution_given", "happened", "committed"),
        ("approval", "Allow exactly this", "approval_given", None, "committed"),
        ("approval", "Deny and undo", "approval_denied", None, "rolled back"),
        ("in_doubt", "Roll back", "rollback_requested", None, "rolled back"),
    ],
)
def test_a_button_stands_in_the_journal_with_who_and_why(  # noqa: PLR0917 (a row of the table)
    acting, open_tab, scene, button, kind, answer, ends
):
    tab = open_tab(acting)
    page = tab.page
    tab.go(acting.path(scene))
    form = page.locator("form", has=page.get_by_role("button", name=button, exact=True))
    form.get_by_role("textbox").fill("I have asked at the counter")
    form.get_by_role("button", name=button, exact=True).click()
    expect(page.locator(".flash.good")).to_contain_text(f"by {who(acting)}")
    expect(page.locator(".head .badge")).to_contain_text(ends)
    said = last(acting, scene, kind)["fields"]
    assert said["by"] == who(acting)
    assert said["note"] == "I have asked at the counter"
    assert said.get("answer") == answer


def test_trying_again_calls_the_undo_once_more(acting, open_tab):
    (acting.server.home / "line-is-down").unlink()
    tab = open_tab(acting)
    page = tab.page
    tab.go("/attention")
    # What stands in its data is the line of the store that was copied, which is still down.
    card = page.locator("article", has=page.get_by_role("link", name="Order 7731"))
    card.get_by_role("button", name="Try again").click()
    expect(page).to_have_url(re.compile("/attention$"))
    expect(page.locator(".flash.good")).to_contain_text("Try again")
    assert last(acting, "stuck", "retry_requested")["fields"]["by"] == who(acting)


def test_a_parked_attempt_can_begin_at_once(acting, open_tab):
    tab = open_tab(acting)
    tab.go(acting.path("parked"))
    tab.page.get_by_role("button", name="Try again").click()
    expect(tab.page.locator(".flash.good")).to_contain_text("Try again")
    assert last(acting, "parked", "retry_requested")["fields"]["by"] == who(acting)


def test_a_resolution_without_a_note_is_not_heard(acting, open_tab):
    tab = open_tab(acting, java_script_enabled=False)
    page = tab.page
    tab.go(acting.path("in_doubt"))
    before = len(events(acting, "in_doubt"))
    form = page.locator("form", has=page.get_by_role("button", name="It happened"))
    form.get_by_role("textbox").fill("   ")
    form.get_by_role("button", name="It happened").click()
    expect(page.locator(".flash.bad")).to_contain_text("say how you know")
    assert len(events(acting, "in_doubt")) == before


def test_what_has_changed_since_is_told_before_anything_is_done(acting, open_tab):
    tab = open_tab(acting, java_script_enabled=False)
    page = tab.page
    tab.go(acting.path("approval"))
    command = [
        sys.executable,
        "-m",
        "aumai_transactions",
        "approve",
        acting.names["approval"],
        "s2",
    ]
    command += ["--store", "store.db", "--app", "shop:manager", "--by", "bob"]
    subprocess.run(command, check=True, capture_output=True, cwd=acting.server.home)
    # Why waited for: the browser tells of the status, 409, itself, and later than of the page.
    with page.expect_console_message(lambda message: "409" in message.text):
        page.get_by_role("button", name="Roll back").click()
    tab.wrong.clear()
    conflict = page.locator(".conflict")
    expect(conflict).to_contain_text("It has changed since you looked, so nothing was done")
    expect(conflict).to_contain_text("s2: allowed, by bob")
    assert not [e for e in events(acting, "approval") if e["kind"] == "rollback_requested"]
    conflict.get_by_role("button", name="Roll back, all the same").click()
    expect(page.locator(".flash.bad")).to_contain_text("not done")


def test_an_approval_is_only_good_for_what_was_shown(acting):
    name = acting.path("approval")
    sequence = len(events(acting, "approval"))
    form = {"csrf": acting.csrf(), "sequence": str(sequence), "do": "approve", "step": "s2"}
    assert acting.post(f"{name}/ask", {**form, "digest": "of-something-else"}).status == 303
    assert b"not done" in acting.get(name).body
    assert not [e for e in events(acting, "approval") if e["kind"] == "approval_given"]


def test_several_are_rolled_back_at_once_after_each_was_shown(acting, open_tab):
    tab = open_tab(acting, java_script_enabled=False)
    page = tab.page
    tab.go("/?state=active")
    for title in ("Trip to Braga", "Trip to Sintra", "Order 7740"):
        page.get_by_role("checkbox", name=f"Tick {title}").check()
    page.get_by_role("button", name="Roll back…").click()
    expect(page.locator("h1")).to_have_text("Roll back: 3 of 3")
    expect(page.locator(".items li", has_text="Trip to Braga")).to_contain_text("s3, s2, s1")
    assert not [e for e in events(acting, "crash") if e["kind"] == "rollback_requested"]
    page.get_by_label("Note").fill("the fair is cancelled")
    page.get_by_role("button", name="Roll back: 3 transactions").click()
    expect(page.locator(".flash").last).to_contain_text("of 3 transactions")
    for scene in ("in_doubt", "crash", "parked"):
        said = last(acting, scene, "rollback_requested")["fields"]
        assert (said["by"], said["note"]) == (who(acting), "the fair is cancelled")


def test_what_cannot_be_rolled_back_is_left_alone_and_says_why(acting, open_tab):
    tab = open_tab(acting, java_script_enabled=False)
    page = tab.page
    tab.go("/?state=committed")
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="Roll back…").click()
    expect(page.locator("h1")).to_have_text("Roll back: 0 of 3")
    expect(page.locator(".items li").first).to_contain_text("It is committed")
    expect(page.locator("form button")).to_have_text(["Log out"])


def test_a_form_of_another_login_is_refused(acting):
    before = len(events(acting, "in_doubt"))
    for csrf in ("", "x", acting.cookie):
        form = {"csrf": csrf, "sequence": str(before), "do": "roll_back"}
        answer = acting.post(f"{acting.path('in_doubt')}/ask", form)
        assert answer.status == 403
    assert acting.get(f"{acting.path('in_doubt')}/ask").status == 405
    assert len(events(acting, "in_doubt")) == before


@pytest.mark.parametrize(
    "form",
    [
        {"do": "explode"},
        {"do": "resolve.maybe", "step": "s3"},
        {"do": "retry.now", "step": "s3"},
        {},
    ],
)
def test_what_no_button_says_is_no_wish(acting, form):
    sequence = str(len(events(acting, "in_doubt")))
    sent = {"csrf": acting.csrf(), "sequence": sequence, **form}
    assert acting.post(f"{acting.path('in_doubt')}/ask", sent).status == 400
    assert len(events(acting, "in_doubt")) == int(sequence)
