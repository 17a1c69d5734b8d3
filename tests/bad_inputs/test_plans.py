"""Rows 51 to 59: plan files, by the loader and by `check` and `run`.

Plans are TOML or JSON; YAML is not read. A row about YAML is here what it comes to in these two.
"""

import itertools
import json
import resource
import sys
import time
from typing import Any

import pytest

from aumai_transactions.errors import PlanFileError
from aumai_transactions.plans import load_plan

SOUND: dict[str, Any] = {
    "actions": {"do": {"kind": "command", "argv": ["true"]}},
    "steps": [{"agent": "a", "action": "do"}],
}
STEP = '[[steps]]\nagent = "a"\naction = "do"\n'
DO = '[actions.do]\nkind = "command"\nargv = ["true"]\n'
HTTP = '[actions.do]\nkind = "http"\n'


def changed(**keys):
    return json.dumps(SOUND | keys)


def in_step(**keys):
    return changed(steps=[SOUND["steps"][0] | keys])


PLANS = [
    # 51, 52: tags, aliases and merge keys are words of YAML only
    ("row 51 YAML", "x.yaml", "!!python/object/apply:os.system ['id']", "YAML is not read"),
    ("row 51 YML", "x.YML", "a: 1", "YAML is not read"),
    ("row 51 another suffix", "x.ini", "", "rename it"),
    ("row 51 a tag", "x.toml", 'a = !!python/object "x"', "line 1"),
    ("row 51 a tag in JSON", "x.json", '{"a": !!x}', "line 1, column 7"),
    ("row 52 an alias", "x.toml", "a = &x [*x]", "line 1"),
    ("row 52 a merge key", "x.json", changed(**{"<<": {}}), '"<<": is not a key of a plan'),
    # 53: a key that stands twice
    ("row 53 a key twice", "x.toml", 'name = "a"\nname = "b"\n', "line 2"),
    ("row 53 a table twice", "x.toml", DO + DO, "line 4"),
    ("row 53 in JSON", "x.json", '{"name": "a", "name": "b"}', "name: stands twice"),
    ("row 53 deep", "x.json", '{"steps": [{"data": {"a": 1, "a": 2}}]}', "steps[1].data.a: stands"),
    # 54: size
    ("row 54 257 KB", "x.toml", "#" * (257 * 1024), "larger than 256 KB"),
    ("row 54 1 MB of items", "x.json", "[" + "1," * 500_000 + "1]", "larger than 256 KB"),
    # 55: what is no document
    ("row 55 empty", "x.toml", "", "is empty"),
    ("row 55 empty JSON", "x.json", "", "is empty"),
    ("row 55 spaces", "x.json", " \n\t", "is empty"),
    ("row 55 an unclosed quote", "x.toml", 'a = "b\n', "line 1"),
    ("row 55 an unclosed list", "x.json", '{"a": [1', "line 1, column 9"),
    ("row 55 two documents", "x.json", "{}{}", "line 1, column 3"),
    ("row 55 no object", "x.json", "[]", "must be one object"),
    ("row 55 null", "x.json", "null", "not null"),
    ("row 55 binary", "x.toml", b"\x00\x01\x02", "line 1"),
    ("row 55 UTF-16", "x.json", "{}".encode("utf-16"), "is not UTF-8"),
    ("row 55 Latin-1", "x.toml", 'a = "\xe9"'.encode("latin-1"), "line 1: is not UTF-8 (byte 0xe9"),
    ("row 55 an overlong form", "x.toml", b'a = "\xc0\xaf"', "is not UTF-8"),
    # 56: what other formats read as something else
    ("row 56 no", "x.toml", "allow_irreversible_first = no\n" + STEP, "line 1"),
    ("row 56 a time", "x.toml", DO + STEP + "data = { at = 22:22:00 }\n", "Put it in quotes"),
    ("row 56 a date", "x.toml", DO + STEP + "data = { at = 2026-01-01 }\n", "Put it in quotes"),
    ("row 56 octal", "x.toml", DO + STEP + "data = { code = 010 }\n", "line 7"),
    ("row 56 a text for a number", "x.json", changed(timeout_seconds="60"), "a number, not text"),
    ("row 56 1 for true", "x.json", in_step(pivot=1), "true or false, not a number"),
    ("row 56 no for false", "x.json", in_step(pivot="no"), "true or false, not text"),
    # 57: what is to be called
    ("row 57 os.system", "x.toml", '[actions.do]\nkind = "python"\ncall = "os.system"\n' + STEP,
     'must be "module:function"'),
    ("row 57 file", "x.toml", HTTP + 'url = "file:///etc/passwd"\n' + STEP, "must begin"),
    ("row 57 a foreign host", "x.toml",
     'http_hosts = ["h"]\n' + HTTP + 'url = "http://169.254.169.254/"\n' + STEP, "http_hosts"),
    ("row 57 a host of data", "x.toml", HTTP + 'url = "http://{data.h}/"\n' + STEP, "brace"),
    ("row 57 a password", "x.toml", HTTP + 'url = "http://u:p@h/"\n' + STEP, "user"),
    ("row 57 a shell string", "x.json",
     changed(actions={"do": {"kind": "command", "argv": "rm -rf /"}}), "must be a list"),
    # 58: unknown keys
    ("row 58 retrys", "x.json",
     changed(actions={"do": {"kind": "command", "argv": ["a"], "retrys": 3}}), 'mean "retry"'),
    ("row 58 agnt", "x.json", in_step(agnt="x"), 'mean "agent"'),
    ("row 58 a status", "x.json", changed(state="committed"), "is not a key of a plan"),
    # 59: references
    ("row 59 a missing step", "x.json", in_step(data={"x": {"$output": "nope"}}), '"nope"'),
    ("row 59 itself", "x.json", in_step(data={"x": {"$output": "s1"}}), "itself"),
    ("row 59 no pointer", "x.json", in_step(data={"x": {"$output": "s1", "at": "a"}}), "pointer"),
    ("row 59 an expression", "x.toml", HTTP + 'url = "http://h/{{{output}}"\n' + STEP, "brace"),
    ("row 59 a whole reference", "x.json", in_step(data={"$output": "s1"}), "as a whole"),
    # values that no store keeps, wherever they stand
    ("row 25 NaN", "x.json", '{"timeout_seconds": NaN}', "NaN is not a JSON number"),
    ("row 25 inf", "x.toml", DO + STEP + "data = { a = inf }\n", "steps[1].data.a"),
    ("row 25 1e999", "x.json", in_step(data={"a": 0}).replace(": 0", ": 1e999"), "data.a"),
    ("row 26 2^63", "x.toml", DO + STEP + "data = { a = 9223372036854775808 }\n", "64 bits"),
    ("row 26 5,000 digits", "x.toml", "a = " + "9" * 5_000, "4,300 digits"),
    ("row 26 5,000 digits in JSON", "x.json", '{"a": ' + "9" * 5_000 + "}", "4,300 digits"),
    ("row 27 a surrogate in data", "x.json", in_step(data={"a": "\ud800"}), "U+D800"),
    ("row 27 a surrogate in a URL", "x.json",
     changed(actions={"do": {"kind": "http", "url": "http://h/\ud800"}}), "actions.do.url"),
    ("row 27 a surrogate in a key", "x.json", in_step(data={"\ud800": 1}), "U+D800"),
    ("row 27 NUL in a name", "x.toml", DO + STEP + 'name = "a\\u0000"\n', "NUL"),
    ("row 27 NUL in an argument", "x.toml", DO.replace("true", "a\\u0000b") + STEP, "NUL"),
    ("row 28 depth 100,000", "x.json", "[" * 100_000, "nested too deep"),
    ("row 28 depth 100,000 in TOML", "x.toml", "a = " + "[" * 100_000, "nested too deep"),
    ("row 28 depth 65", "x.json", in_step(data={"a": 0}).replace(": 0", ": " + "[" * 65 + "]" * 65),
     "64 deep"),
    ("row 28 dots", "x.toml", "a." * 100_000 + "b = 1", "names with dots"),
    ("row 20 no steps", "x.json", changed(steps=[]), "at least one step"),
    ("row 17 a name twice", "x.json",
     changed(steps=[{"agent": "a", "action": "do", "name": "n"}] * 2), "steps[2].name"),
    ("row 18 a circle", "x.json",
     changed(steps=[{"agent": "a", "action": "do", "name": "n", "after": ["m"]},
                    {"agent": "a", "action": "do", "name": "m", "after": ["n"]}]), "itself"),
    ("row 19 an unknown step", "x.json", in_step(after=["shipp"]), '"shipp"'),
]  # fmt: skip


@pytest.mark.parametrize("name,text,named", [case[1:] for case in PLANS], ids=[c[0] for c in PLANS])
def test_a_plan_that_cannot_be_is_refused_with_file_and_place(tmp_path, name, text, named):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.monotonic()
    with pytest.raises(PlanFileError) as caught:
        load_plan(path)
    assert time.monotonic() - began < 5
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert named in message
    assert len(message) < 1_000
    assert message.isprintable()


@pytest.mark.parametrize("command", ["check", "run", "submit"])
@pytest.mark.parametrize("case", [PLANS[0], PLANS[7], PLANS[25], PLANS[-1]], ids=lambda c: c[0])
def test_so_do_check_run_and_submit_and_no_store_is_made(cli, here, unchanged, command, case):
    _, name, text, named = case
    (here / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with unchanged():
        cli(command, name, "--store", "s.db", code=2, named=[f"{name}: ", named])


@pytest.mark.parametrize(
    "make,named",
    [
        pytest.param(lambda path: path.mkdir(), "Is a directory", id="row 54 a folder"),
        pytest.param(lambda path: path.symlink_to(path), "too many", id="row 54 a circle of links"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "256 KB", id="row 54 without end"),
        pytest.param(lambda path: None, "does not exist", id="row 54 nothing"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path, make, named):
    path = tmp_path / "plan.toml"
    make(path)
    with pytest.raises(PlanFileError) as caught:
        load_plan(path)
    assert named.lower() in str(caught.value).lower()


@pytest.mark.parametrize("value", [None, 3, b"plan.toml", [], object()])
def test_row_54_what_is_no_path_is_refused(value):
    with pytest.raises(PlanFileError, match="is no path"):
        load_plan(value)


def test_row_52_a_plan_that_grows_while_it_is_read_cannot_be_written(tmp_path):
    """There are no aliases, so that a file of 256 KB is never a plan of more than that."""
    steps = [SOUND["steps"][0] | {"data": {"x": "y" * 1_000}} for _ in range(220)]
    path = tmp_path / "large.json"
    path.write_text(changed(steps=steps))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = load_plan(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(plan.steps) == 220
    assert grown < 64 * 1024 * (1 if sys.platform != "darwin" else 1024)


def test_row_56_plain_words_and_numbers_are_what_json_says(tmp_path):
    path = tmp_path / "plan.toml"
    words = 'a = "no"\nb = "22:22"\nc = "010"\nd = 1e3\ne = 0x10\nf = -0.0\n'
    path.write_text(DO + STEP + "[steps.data]\n" + words)
    data = load_plan(path).steps[0].data
    expected = {"a": "no", "b": "22:22", "c": "010", "d": 1e3, "e": 16, "f": -0.0}
    pairs = itertools.zip_longest(data.items(), expected.items())
    assert all(repr(one) == repr(other) for one, other in pairs)
