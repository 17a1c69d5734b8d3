"""Pages that change while somebody looks at them."""

import subprocess
import sys

from playwright.sync_api import expect


def command(shop, *words):
    line = [sys.executable, "-m", "aumai_transactions", *words, "--store", "store.db"]
    subprocess.run(line, check=False, capture_output=True, cwd=shop.server.home)


def test_the_list_changes_by_itself_and_keeps_focus_ticks_and_what_is_typed(acting, open_tab):
    tab = open_tab(acting)
    page = tab.page
    tab.go("/")
    tab.is_live()
    page.get_by_role("checkbox", name="Tick Trip to Porto").check()
    page.get_by_label("Search").fill("half a word")
    page.get_by_role("link", name="Pay the supplier").focus()
    command(acting, "deny", acting.names["approval"], "s2", "--note", "no", "--app", "shop:manager")
    row = page.locator("tr", has=page.get_by_role("link", name="Pay the supplier"))
    expect(row).to_contain_text("rolled back")
    assert page.evaluate("document.activeElement.textContent") == "Pay the supplier"
    expect(page.get_by_role("checkbox", name="Tick Trip to Porto")).to_be_checked()
    expect(page.get_by_label("Search")).to_have_value("half a word")
    rows = page.locator("tbody tr")
    count = rows.count()
    command(acting, "create")
    expect(rows).to_have_count(count + 1)
    assert page.evaluate("document.activeElement.textContent") == "Pay the supplier"


def test_a_transaction_changes_by_itself_and_keeps_what_is_open_and_typed(acting, open_tab):
    tab = open_tab(acting)
    page = tab.page
    tab.go(acting.path("in_doubt"))
    tab.is_live()
    page.locator("#j3 summary").click()
    page.locator("#note-rollback").fill("I am still writing")
    page.locator("#note-rollback").evaluate("element => element.setSelectionRange(2, 4)")
    before = page.locator(".journal li").count()
    command(acting, "resolve", acting.names["parked"], "s1", "--happened", "--note", "not this one")
    answer = ("--did-not-happen", "--note", "asked the bank")
    command(acting, "resolve", acting.names["in_doubt"], "s3", *answer)
    page.wait_for_function("n => document.querySelectorAll('.journal li').length > n", arg=before)
    expect(page.locator(".journal")).to_contain_text("did not happen (asked the bank)")
    expect(page.locator("#j3")).to_have_attribute("open", "")


def test_a_page_says_when_it_is_not_live_any_more(acting, open_tab):
    tab = open_tab(acting)
    tab.go("/")
    tab.is_live()
    acting.server.process.terminate()
    acting.server.process.wait(60)
    tab.page.locator("#link-state.bad").wait_for()
    tab.wrong.clear()  # The browser tells of the lost connection itself.
