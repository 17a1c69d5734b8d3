"""Real MCP servers of others, as npm and PyPI carry them, for the gateway's tests.

Owns: which versions, and installing each once into `.cache/mcp-servers`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "mcp-servers"
NPM: tuple[str, ...] = (
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
)
PYPI: dict[str, tuple[str, ...]] = {
    "git": ("mcp-server-git==2026.10.19",),
    "fetch": ("mcp-server-fetch==2026.10.24",),
    # Its release does not know the second major version of the SDK.
    "sqlite": ("mcp-server-sqlite==2025.4.25", "mcp<2"),
}


def _installed(name: str, wanted: tuple[str, ...], install: object) -> Path:
    """Return the folder of what is installed; install it, if nobody has yet."""
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "complete"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != " ".join(wanted):
            install(folder)  # type: ignore[operator]
            done.write_text(" ".join(wanted))
    return folder


def _outside() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}


def npm_server(name: str) -> list[str]:
    """Return the command of a server that npm carries."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not both installed; on Debian: apt-get install nodejs npm")

    def install(folder: Path) -> None:
        (folder / "package.json").write_text("{}")
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", *NPM]
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)

    folder = _installed("npm", NPM, install)
    package = folder / "node_modules" / "@modelcontextprotocol" / f"server-{name}"
    return [node, str(package / "dist" / "index.js")]


def pypi_server(name: str) -> list[str]:
    """Return the command of a server that PyPI carries, in an environment of its own."""

    def install(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        command = [str(python), "-m", "pip", "install", "--quiet", *PYPI[name]]
        subprocess.run(command, check=True, env=_outside())

    folder = _installed(name, PYPI[name], install)
    return [str(folder / "venv" / "bin" / f"mcp-server-{name}")]
