"""Fuzz one target for a while: coverage-guided with atheris, or drawn by Hypothesis without it.

    python tests/fuzz/fuzz.py TARGET [--seconds N] [--corpus FOLDER] [--engine atheris|hypothesis]

Owns: the way from a command line to a fuzzer. Nothing here is part of the normal suite; what it
finds becomes a case in `test_targets.py`.

atheris is a tool, no dependency: pip install atheris in an environment that has this package. A
finding is written to the corpus folder, as `crash-…` or as Hypothesis prints it; the exit code is
then not 0. FUZZ_EXAMPLES says how many examples Hypothesis draws at most.
"""

import argparse
import contextlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

NAMES = ("plan_toml", "plan_json", "journal", "codec", "values")
EXAMPLES_MAX = 1_000_000
INPUT_BYTES_MAX = 300_000
MEMORY_MB_MAX = 2_048
SECONDS_EACH_MAX = 10
AT_ONCE = 2


def main() -> None:
    """Read the command line, and fuzz."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=(*NAMES, "all"))
    parser.add_argument("--seconds", type=int, default=60, help="how long; default 60")
    parser.add_argument("--corpus", type=Path, help="kept and grown; default a temporary folder")
    has_atheris = importlib.util.find_spec("atheris") is not None
    default = "atheris" if has_atheris else "hypothesis"
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), default=default)
    said = parser.parse_args()
    if said.target == "all":
        # Why processes: an engine ends the one that it runs in.
        rest = [*sys.argv[1:]]
        rest.remove("all")
        with ThreadPoolExecutor(AT_ONCE) as threads:
            sys.exit(max(threads.map(lambda name: _fuzzed(name, rest), NAMES)))
    folder = said.corpus or Path(tempfile.mkdtemp(prefix="aumai-fuzz-corpus-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if said.engine == "atheris":
            _guided(said.target, said.seconds, folder)
        else:
            _drawn(said.target, said.seconds)
    finally:
        if said.corpus is None:
            shutil.rmtree(folder)


def _fuzzed(name: str, rest: list[str]) -> int:
    """Fuzz one target in a process of its own; return its exit code."""
    print(f"== {name}", flush=True)
    return abs(subprocess.run([sys.executable, __file__, name, *rest], check=False).returncode)


def _guided(target: str, seconds: int, folder: Path) -> None:
    atheris: Any = importlib.import_module("atheris")

    # Why inside: what is imported here is instrumented, so that coverage can guide.
    with atheris.instrument_imports(include=["aumai_transactions", "tomllib", "json"]):
        from targets import TARGETS  # type: ignore[import-not-found]  # beside it
    from seeds import corpus, mutated  # type: ignore[import-not-found]  # beside it

    sound = corpus(target)
    for number, content in enumerate(sound):
        (folder / f"seed-{number:03}").write_bytes(content)

    def custom_mutator(data, size_max, seed):
        dice = Random(seed)
        if dice.random() < 0.3:
            return atheris.Mutate(data, size_max)
        return mutated(data or dice.choice(sound), sound, dice)[:size_max]

    options = [
        sys.argv[0],
        str(folder),
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS_EACH_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]
    atheris.Setup(options, TARGETS[target], custom_mutator=custom_mutator)
    atheris.Fuzz()


def _drawn(target: str, seconds: int) -> None:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from seeds import corpus, mutated
    from targets import TARGETS

    sound = corpus(target)
    until = time.monotonic() + seconds
    count = [0]

    @settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", EXAMPLES_MAX)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sound), st.integers(0, 2**32))
    def attack(data, seed):
        if time.monotonic() < until:
            count[0] += 1
            TARGETS[target](mutated(data, sound, Random(seed)))
        elif count[0] >= 0:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        attack()
    print(f"{target}: {count[0]:,} inputs in {seconds} s, no promise broken")


if __name__ == "__main__":
    main()
