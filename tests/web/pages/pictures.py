"""Take the pictures of docs/page.md, from the store that the tests look at.

python -m tests.web.pages.pictures          into docs/pictures/
"""

import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from tests.web.browsing import CHROMIUM, HERE, LAUNCH, Tab, opened_shop, shop_module

FOLDER = HERE.parents[1] / "docs" / "pictures"
WIDE = {"viewport": {"width": 1100, "height": 780}}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "device_scale_factor": 2}


def take(browser, shop, name, path, height=None, **options):
    tab = Tab(browser, shop.url, shop.cookie, **options)
    tab.go(path)
    tab.page.locator("h1").wait_for()
    if path.startswith("/?") or path == "/" or "transactions" in path or path == "/attention":
        tab.is_live()
    shown = tab.page.viewport_size
    clip = {"x": 0, "y": 0, "width": shown["width"], "height": height or shown["height"]}
    tab.page.screenshot(path=FOLDER / f"{name}.png", full_page=True, clip=clip)
    assert tab.wrong == [], tab.wrong
    tab.context.close()


def main():
    with tempfile.TemporaryDirectory(prefix="shop-") as folder, sync_playwright() as playwright:
        path = Path(folder) / "shop" / "store.db"
        path.parent.mkdir()
        filled = path, shop_module().build_store(path)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        with opened_shop(filled, Path(folder) / "trips") as shop:
            for scheme in ("light", "dark"):
                options = {**WIDE, "color_scheme": scheme}
                take(browser, shop, f"page-list-{scheme}", "/", 1_010, **options)
                one = shop.path("outstanding")
                take(browser, shop, f"page-transaction-{scheme}", one, 1_180, **options)
            take(browser, shop, "page-approval", shop.path("approval"), 860, **WIDE)
            take(
                browser, shop, "page-attention-dark", "/attention", 900, **WIDE, color_scheme="dark"
            )
            take(browser, shop, "page-workers", "/workers", 800, **WIDE)
            take(browser, shop, "page-health", "/health", 700, **WIDE)
            take(browser, shop, "page-phone", shop.path("in_doubt"), 1_000, **PHONE)
        browser.close()


if __name__ == "__main__":
    main()
