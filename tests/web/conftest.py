"""A store by real runs, `serve` in front of it, and a real browser."""

from pathlib import Path

import pytest
from tests.web.browsing import CHROMIUM, LAUNCH, Tab, opened_shop, shop_module


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A store with every kind of trouble, and its transactions by scene; nobody writes into it."""
    path = tmp_path_factory.mktemp("shop") / "store.db"
    return path, shop_module().build_store(path)


@pytest.fixture(scope="module")
def browser():
    """A real Chromium; closed before another module begins, for it holds this thread's loop."""
    if not Path(CHROMIUM).exists():
        # Why no failure: a browser comes with no package of Python; .ci/run installs it.
        pytest.skip(f"there is no {CHROMIUM}; install it to run the tests in a browser")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def shown(filled, tmp_path_factory):
    """A shop behind a server that only shows: nobody finishes what was left behind."""
    with opened_shop(filled, tmp_path_factory.mktemp("shown") / "store", acts=False) as shop:
        yield shop


@pytest.fixture(scope="module")
def ready(filled, tmp_path_factory):
    """A shop behind a server that acts, of which a test looks at the pages only."""
    with opened_shop(filled, tmp_path_factory.mktemp("ready") / "store") as shop:
        yield shop


@pytest.fixture
def acting(filled, tmp_path):
    """A shop of its own, which a test may change."""
    with opened_shop(filled, tmp_path / "store") as shop:
        yield shop


@pytest.fixture
def open_tab(browser):
    """Open tabs, and see at the end that nothing went wrong in them."""
    opened = []

    def make(shop, *, cookie=None, **options):
        tab = Tab(browser, shop.url, shop.cookie if cookie is None else cookie, **options)
        opened.append(tab)
        return tab

    yield make
    for tab in opened:
        tab.context.close()
    assert [tab.wrong for tab in opened if tab.wrong] == []
