"""A shop behind a real `serve`, somebody who is logged in, and a browser in front of both."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.web.served import Answer, Served, served

HERE = Path(__file__).resolve().parent
CHROMIUM = "/usr/bin/chromium"
LAUNCH = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
]
POLICY_BROKEN = re.compile("Content Security Policy|violates the following")


def shop_module() -> Any:
    """Return the module whose actions the servers have, by the name under which they import it."""
    if "shop" not in sys.modules:
        spec = importlib.util.spec_from_file_location("shop", HERE / "shop.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["shop"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["shop"])
    return sys.modules["shop"]


class Shop:
    """Be a running server, and somebody who has logged in there."""

    def __init__(self, server: Served, names: Mapping[str, str]) -> None:
        self.server = server
        self.names = names
        self.url = f"http://{server.name}"
        answer = self.post("/login", {"do": "code", "code": server.code}, cookie="")
        assert answer.status == 303, answer
        self.cookie = (answer.header("set-cookie") or "").partition(";")[0]

    def get(self, path: str, cookie: str | None = None) -> Answer:
        return self.server.ask(path, headers={"cookie": self.cookie if cookie is None else cookie})

    def post(
        self, path: str, form: Mapping[str, str] | list[tuple[str, str]], cookie: str | None = None
    ) -> Answer:
        headers = {
            "cookie": self.cookie if cookie is None else cookie,
            "content-type": "application/x-www-form-urlencoded",
            "origin": self.url,
        }
        return self.server.ask(path, "POST", headers, urlencode(form).encode())

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/health").body.decode())
        assert found
        return found[1]

    def path(self, scene: str) -> str:
        return f"/transactions/{self.names[scene]}"


@contextlib.contextmanager
def opened_shop(
    filled: tuple[Path, Mapping[str, str]], folder: Path, *, acts: bool = True
) -> Iterator[Shop]:
    """Serve a copy of a store, and log in.

    Args:
        filled: The store, and its transactions by scene.
        folder: Where the copy goes; it is made.
        acts: False where the server only shows.
    """
    path, names = filled
    shutil.copytree(path.parent, folder)
    shutil.copy(HERE / "shop.py", folder)
    acting = ("--allow-actions", "--app", "shop:manager") if acts else ()
    with served(folder, *acting) as server:
        yield Shop(server, names)


class Tab:
    """Be a tab, and remember everything that must not happen in one."""

    def __init__(self, browser, url, cookie, **options):
        self.url = url
        self.context = browser.new_context(**options)
        if cookie:
            name, _, value = cookie.partition("=")
            self.context.add_cookies([{"name": name, "value": value, "url": url}])
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", self._asked)

    def _heard(self, message):
        if message.type in ("error", "warning") or POLICY_BROKEN.search(message.text):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, dialog):
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def go(self, path):
        return self.page.goto(self.url + path)

    def is_live(self):
        self.page.locator("#link-state.good").wait_for()
