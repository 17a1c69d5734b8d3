"""Run the tests of adapters, each against its real framework, in an environment of its own.

    python tests/frameworks/run.py                       every framework, lowest and newest
    python tests/frameworks/run.py langchain mcp         only these
    python tests/frameworks/run.py --only newest         only the newest versions that are known
    python tests/frameworks/run.py --latest              whatever is newest by now, instead of them
    python tests/frameworks/run.py --list                what there is

Owns: which versions are supported, and the environments. Frameworks pin what they need, and their
pins exclude each other; so none of them is in the environment of the other tests, which pass over
`tests/frameworks/<name>` where its framework is not installed.

Environments stand in `.cache/frameworks` and are made again when what is asked for them changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "frameworks"
TOOLS = ("pytest==9.2.0", "pytest-xdist==3.8.0", "hypothesis==6.170.15")


class Framework(NamedTuple):
    """Hold which versions of a framework its adapter supports.

    Args:
        lowest: Requirements of the oldest.
        newest: Requirements of the newest that is known to work.
        extra: The extra of this package that is installed with it.
    """

    lowest: tuple[str, ...]
    newest: tuple[str, ...]
    extra: str | None = None


FRAMEWORKS: dict[str, Framework] = {
    # Its package brings a program of 380 MB, which no test runs.
    "claude-agent-sdk": Framework(
        lowest=("claude-agent-sdk==0.2.177",),
        newest=("claude-agent-sdk==0.2.189",),
        extra="claude",
    ),
    "mcp": Framework(lowest=("mcp==2.2.0",), newest=("mcp==2.3.0",), extra="mcp"),
    "openai-agents": Framework(
        lowest=("openai-agents==0.21.0",),
        newest=("openai-agents==0.24.0",),
        extra="openai-agents",
    ),
    "pydantic-ai": Framework(
        lowest=("pydantic-ai-slim==2.37.0",),
        newest=("pydantic-ai-slim==2.68.0",),
        extra="pydantic-ai",
    ),
    "langchain": Framework(
        lowest=(
            *("langchain==1.0.1", "langgraph==1.0.2", "langgraph-prebuilt==1.0.2"),
            "langgraph-checkpoint-sqlite==3.0.0",
        ),
        newest=(
            *("langchain==1.5.2", "langgraph==1.2.24", "langgraph-prebuilt==1.1.3"),
            "langgraph-checkpoint-sqlite==3.1.2",
        ),
        extra="langchain",
    ),
    # Why no extra for those below: they need no adapter, and CrewAI's pins would hold others back.
    "google-adk": Framework(lowest=("google-adk==2.0.0",), newest=("google-adk==2.13.0",)),
    "fastmcp": Framework(lowest=("fastmcp==2.13.0",), newest=("fastmcp==4.2.3",)),
    "a2a": Framework(
        lowest=("a2a-sdk[http-server]==1.0.3",), newest=("a2a-sdk[http-server]==1.3.0",)
    ),
    "crewai": Framework(lowest=("crewai==1.15.0",), newest=("crewai==1.15.30",)),
}
"""By name; the folder with their tests has `_` for each `-` in it, so that it is a package."""


Words = list[str | Path]


def names_of(requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Return requirements without their versions."""
    return tuple(one.partition("==")[0].partition(">=")[0] for one in requirements)


def environment(name: str, kind: str, requirements: tuple[str, ...], extra: str | None) -> Path:
    """Return the Python of an environment with these requirements; make it, if it is not there."""
    asked = "\n".join([sys.version, *TOOLS, *requirements, str(extra)])
    mark = hashlib.sha256(asked.encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{kind}-{mark}"
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    package = str(ROOT) if extra is None else f"{ROOT}[{extra}]"
    # Why without the constraints of CI: they pin what the frameworks pin otherwise.
    outside = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    install: Words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *TOOLS, *requirements, "-e", package], check=True, env=outside)
    done.touch()
    return python


def run(name: str, kind: str, framework: Framework, *, latest: bool, more: list[str]) -> bool:
    """Run the tests of one framework in one of its versions; tell whether they passed."""
    requirements = framework.lowest if kind == "lowest" else framework.newest
    if latest and kind == "newest":
        requirements = names_of(requirements)
    began = time.monotonic()
    python = environment(name, kind, requirements, framework.extra)
    # Why no Python path: each environment has the package itself.
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    outside["AUMAI_FRAMEWORK"] = name
    # Why no error for a warning: frameworks warn of each other.
    command: Words = [python, "-m", "pytest", "-q", "-n0", "-o", "filterwarnings=default"]
    # Why no conftest above: what it imports is in the environment of the other tests.
    command += ["--confcutdir=tests/frameworks"]
    command += [f"tests/frameworks/{name.replace('-', '_')}"]
    command += ["tests/frameworks/test_shown.py", *more]
    code = subprocess.run(command, cwd=ROOT, env=outside, check=False).returncode
    seconds = time.monotonic() - began
    told = "passed" if code == 0 else f"FAILED ({code})"
    print(f"==> {name} {kind} ({', '.join(requirements)}): {told}, {seconds:.0f} s", flush=True)
    return code == 0


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="FRAMEWORK")
    parser.add_argument("--only", choices=["lowest", "newest"])
    parser.add_argument("--latest", action="store_true")
    parser.add_argument("--list", action="store_true")
    options, more = parser.parse_known_args()
    strange = [name for name in options.names if name not in FRAMEWORKS]
    if strange:
        parser.error(
            f"no framework is called {', '.join(strange)}; there are {', '.join(FRAMEWORKS)}"
        )
    if options.list:
        for name, framework in FRAMEWORKS.items():
            print(name, "lowest", *framework.lowest, "newest", *framework.newest)
        return
    kinds = [options.only] if options.only else ["lowest", "newest"]
    failed = [
        f"{name} {kind}"
        for name in options.names or FRAMEWORKS
        for kind in kinds
        if not run(name, kind, FRAMEWORKS[name], latest=options.latest, more=more)
    ]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
