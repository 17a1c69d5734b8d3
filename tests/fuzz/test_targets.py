"""A little fuzzing in every run, what longer runs have found, and that the targets can fail.

The longer runs are `python tests/fuzz/fuzz.py TARGET --seconds N`, coverage-guided where atheris
is installed; `HYPOTHESIS_PROFILE=nightly` draws more of the same here.
"""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parent


def beside(name):
    """Import a module of this folder, as the programs in it do."""
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


targets, seeds = beside("targets"), beside("seeds")
TARGETS = targets.TARGETS
EXAMPLES_MAX = max(settings().max_examples, 250)
_corpora: dict[str, list[bytes]] = {}


def corpus(target):
    if target not in _corpora:
        _corpora[target] = seeds.corpus(target)
    return _corpora[target]


@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_begins_with_is_sound(target):
    sound = corpus(target)
    assert len(sound) >= 5
    for content in sound:
        TARGETS[target](content)


def test_the_journals_have_every_kind_of_end():
    text = b"\n".join(corpus("journal"))
    for kind in ("committed", "rolled_back", "approval_given", "scope_opened", "locks_granted"):
        assert kind.encode() in text


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=EXAMPLES_MAX)
@given(seed=st.integers(0, 2**32))
def test_no_mutation_of_a_sound_input_breaks_a_promise(target, seed):
    dice, sound = Random(seed), corpus(target)
    TARGETS[target](seeds.mutated(dice.choice(sound), sound, dice))


@pytest.mark.parametrize("target", TARGETS)
@given(content=st.binary(max_size=200))
def test_no_bytes_at_all_break_a_promise(target, content):
    TARGETS[target](content)


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(codec=None), max_size=20),
        st.binary(max_size=5),
        st.dates(),
        st.sampled_from([2**63 - 1, 2**63, -(2**63), -0.0, math.nan, "\ud800", "\0", 10**4_000]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(st.integers(), max_size=2),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(value=ANYTHING)
def test_no_object_of_python_breaks_a_promise_of_values(value):
    targets.check_value(value)


# ------------------------------------------------------------------------- what was found, for ever


def changed(target, has, old, new):
    """Return the first sound input that holds something, with something in it replaced."""
    content = next(one for one in corpus(target) if has in one and old in one)
    return content.replace(old, new, 1)


def two_plans():
    """A plan with a pivot, and behind it another one without: the pivot was remembered."""
    pivot = next(one for one in corpus("journal") if b'"pivot":true' in one).split(b"\n")[0]
    rolled_back = next(
        one
        for one in corpus("journal")
        if b"rollback_requested" in one and b"s1" in one and b"s2" not in one
    )
    return pivot + b"\n" + rolled_back


FOUND = {
    "a surrogate in an output": lambda: (
        "codec",
        changed("codec", b"step_succeeded", b'"did":', b'"\\ud800":'),
    ),
    "NaN in an output": lambda: ("codec", changed("codec", b"step_succeeded", b'"R1"', b"NaN")),
    "infinity in an output": lambda: (
        "codec",
        changed("codec", b"step_succeeded", b'"R1"', b"1e999"),
    ),
    "a time beyond the calendar": lambda: (
        "journal",
        changed("journal", b"plan_recorded", b'"at":', b'"at":1' + b"0" * 30),
    ),
    "an endless timeout": lambda: (
        "journal",
        changed("journal", b"plan_recorded", b'"timeout_seconds":60', b'"timeout_seconds":1e300'),
    ),
    "a retry policy beyond its limits": lambda: (
        "journal",
        changed("journal", b"retry", b'"attempts_max":2', b'"attempts_max":99999'),
    ),
    "two plans": lambda: ("journal", two_plans()),
    "depth that a reader cannot walk": lambda: (
        "journal",
        changed("journal", b"step_succeeded", b'"R1"', b"[" * 600 + b"]" * 600),
    ),
    "a surrogate in a URL": lambda: (
        "plan_json",
        json.dumps(
            {
                "actions": {"do": {"kind": "http", "url": "http://h/{data.a\ud800}"}},
                "steps": [{"agent": "a", "action": "do"}],
            }
        ).encode(),
    ),
}


@pytest.mark.parametrize("make", FOUND.values(), ids=FOUND)
def test_what_was_found_stays_mended(make):
    target, content = make()
    TARGETS[target](content)


# --------------------------------------------------------------------------- the test of the tests


@pytest.mark.parametrize(
    "target,name",
    [
        ("codec", "decode"),
        ("journal", "replay"),
        ("values", "checked_copy"),
        ("plan_json", "load_plan"),
        ("plan_toml", "load_plan"),
    ],
)
def test_a_target_is_broken_by_an_error_that_is_not_ours(monkeypatch, target, name):
    def fail(*arguments):
        raise KeyError("not ours")

    monkeypatch.setattr(targets, name, fail)
    with pytest.raises(KeyError):
        TARGETS[target](corpus(target)[0])


def test_a_target_is_broken_by_a_value_that_does_not_come_back(monkeypatch):
    monkeypatch.setattr(targets, "checked_copy", lambda value: value)
    with pytest.raises(targets.Broken, match="another value"):
        targets.check_value((1, 2))
    assert not targets.same(1, True)
    assert not targets.same(0.0, -0.0)
    assert not targets.same({"a": [1]}, {"a": [1.0]})


def test_a_target_is_broken_by_a_slow_answer(monkeypatch):
    monkeypatch.setattr(targets, "SECONDS_MAX", -1)
    with pytest.raises(targets.Broken, match="took"):
        targets.values(b"1")


def test_the_program_fuzzes_without_atheris(tmp_path):
    ran = subprocess.run(
        [sys.executable, FOLDER / "fuzz.py", "values", "--seconds", "1", "--engine", "hypothesis"],
        capture_output=True,
        check=False,
        text=True,
        env={"PYTHONPATH": str(FOLDER.parents[1] / "src"), "FUZZ_EXAMPLES": "50", "PATH": ""},
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert "no promise broken" in ran.stdout
