"""Programs that are asked, that look, and that are told what the action returned."""

import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from aumai_transactions.answers import Clean, Done, NotDone, Residue, Unknown
from aumai_transactions.errors import NotDelivered, StepRejected
from aumai_transactions.participants.command import CommandDefinition

from .conftest import CONTEXT

PROBING = replace(CONTEXT, operation="probe", idempotency_key="tx-1/flight/probe")
VERIFYING = replace(CONTEXT, operation="verification", idempotency_key="tx-1/flight/verification")


def action_of(**keys):
    keys = {"kind": "command", "argv": ["true"], **keys}
    return CommandDefinition.model_validate(keys).action("reserve")


def probe(script, data=None, **keys):
    handler = action_of(probe={"argv": ["sh", "-c", script], **keys}).probe
    assert handler is not None
    return handler(data or {}, PROBING)


def verify(script, data=None, context=VERIFYING, **keys):
    handler = action_of(verify={"argv": ["sh", "-c", script], **keys}).verify
    assert handler is not None
    return handler(data or {}, context)


# ------------------------------------------------------------------------------- what it is told


def test_an_undo_can_be_told_what_the_action_returned(undoing):
    program = "import json, sys; print(json.dumps(json.load(sys.stdin)))"
    definition = CommandDefinition.model_validate(
        {"kind": "command", "argv": [sys.executable, "-c", program], "input": "full"}
    )
    handler = definition.handler()
    output = {"id": "R1", "much": "x" * 300_000}
    assert handler("cancel", {"n": 1}, replace(undoing, output=output)) == {
        "data": {"n": 1},
        "output": output,
        "in_doubt": False,
    }
    assert handler("cancel", {}, replace(undoing, in_doubt=True)) == {
        "data": {},
        "output": None,
        "in_doubt": True,
    }


def test_without_asking_for_more_a_program_is_told_the_data_alone(undoing):
    handler = CommandDefinition.model_validate({"kind": "command", "argv": ["cat"]}).handler()
    assert handler("cancel", {"n": 1}, replace(undoing, output={"id": 1})) == {"n": 1}


def test_the_command_line_is_never_filled_in(acting):
    argv = ["printf", "%s|", "{data.id}", "{{key}}", "{nonsense"]
    handler = CommandDefinition.model_validate({"kind": "command", "argv": argv}).handler()
    assert handler("reserve", {"id": "F1"}, acting) == "{data.id}|{{key}}|{nonsense|"


def test_data_that_is_no_json_is_refused_before_anything_starts(acting, tmp_path):
    argv = ["touch", str(tmp_path / "started")]
    handler = CommandDefinition.model_validate({"kind": "command", "argv": argv}).handler()
    with pytest.raises(StepRejected, match="touch was not started: the body cannot be written"):
        handler("reserve", {"x": "\ud800"}, acting)
    with pytest.raises(NotDelivered, match="touch was not started"):
        handler("reserve", {"x": "\ud800"}, replace(acting, attempt=2))
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize(
    "script,found",
    [
        ("echo '{\"id\": 5}'", Done({"id": 5})),
        ("cat", Done({})),
        ("true", Done(None)),
        ("echo R-17", Done("R-17")),
        (
            "echo no; echo no such key >&2; exit 3",
            NotDone("sh ended with exit code 3: no such key"),
        ),
        ("exit 3", NotDone("sh ended with exit code 3 and wrote nothing to stderr")),
        ("echo busy >&2; exit 1", Unknown("sh ended with exit code 1: busy")),
        ("exit 4", Unknown("sh ended with exit code 4 and wrote nothing to stderr")),
        ("kill -9 $$", Unknown("sh was killed by SIGKILL and wrote nothing to stderr")),
        ("kill -3 $$", Unknown("sh was killed by SIGQUIT and wrote nothing to stderr")),
    ],
)
def test_the_end_of_a_probe_says_what_became_of_the_call(script, found):
    assert probe(script) == found


@pytest.mark.parametrize(
    "script,found",
    [
        ("true", Clean()),
        ("echo anything", Clean()),
        ("echo '[\"R-17\"]'; exit 3", Residue(["R-17"])),
        ("exit 3", Residue(None)),
        ("echo busy >&2; exit 1", Unknown("sh ended with exit code 1: busy")),
        ("kill -9 $$", Unknown("sh was killed by SIGKILL and wrote nothing to stderr")),
    ],
)
def test_the_end_of_a_verification_says_what_is_left(script, found):
    assert verify(script) == found


@pytest.mark.parametrize("ask", [probe, verify])
def test_a_question_that_takes_too_long_is_not_answered(ask):
    found = ask("sleep 100", timeout_seconds=0.3)
    assert isinstance(found, Unknown)
    assert "not ended after 0.3 s" in found.why


@pytest.mark.parametrize("ask", [probe, verify])
def test_a_question_that_cannot_be_asked_is_not_answered(ask, monkeypatch):
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    lacking = ask("true", env={"T": {"env": "TRIP_TOKEN"}})
    assert lacking == Unknown("sh was not started: environment variable TRIP_TOKEN is not set")
    missing = ask("", argv=["no-such-program-anywhere"])
    assert isinstance(missing, Unknown)
    assert "the program was not found" in missing.why


def test_a_question_says_which_call_it_is_about_and_gets_the_data_and_the_output(tmp_path):
    script = 'echo "$AUMAI_OPERATION $AUMAI_IDEMPOTENCY_KEY $AUMAI_FORWARD_KEY $X" >&2; cat; exit 3'
    found = verify(script, {"n": 1}, replace(VERIFYING, output=5), env={"X": "mine"}, input="full")
    assert found == Residue({"data": {"n": 1}, "output": 5, "in_doubt": False})
    told = probe(script, {"n": 1}, env={"X": "mine"})
    assert told == NotDone(
        "sh ended with exit code 3: probe tx-1/flight/probe tx-1/flight/action mine"
    )


def test_a_question_is_asked_in_the_folder_of_its_action(tmp_path):
    keys = {"cwd": str(tmp_path), "probe": {"argv": ["pwd"]}, "verify": {"argv": ["pwd"]}}
    action = action_of(**keys)
    assert action.probe is not None
    assert action.probe({}, PROBING) == Done(str(tmp_path))


@pytest.mark.parametrize("ask", [probe, verify])
def test_a_secret_that_the_program_repeats_is_not_in_the_answer(ask, monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "s3cret")
    found = ask('echo "bad $T" >&2; exit 1', env={"T": {"env": "TRIP_TOKEN", "prefix": "x-"}})
    assert found == Unknown("sh ended with exit code 1: bad x-•••")


def test_the_network_limit_of_a_program_is_no_limit_of_the_driver():
    action = action_of(timeout_seconds=5, probe={"argv": ["true"], "timeout_seconds": 6})
    assert (action.timeout_seconds, action.abandon_after_seconds) == (None, None)


@pytest.mark.parametrize(
    "keys,told",
    [
        ({"probe": {}}, "probe.argv"),
        ({"probe": {"argv": []}}, "probe.argv"),
        ({"probe": {"argv": ["x"], "cwd": "/"}}, "probe.cwd"),
        ({"probe": {"argv": ["x"], "missing": "not_done"}}, "probe.missing"),
        ({"verify": {"argv": ["x"], "env": {"AUMAI_FORWARD_KEY": "x"}}}, "is set by every call"),
        ({"input": "everything"}, "input"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(keys, told):
    with pytest.raises(ValidationError) as caught:
        action_of(**keys)
    assert told in str(caught.value)


def test_what_questions_lack_is_known_before_anything_runs(monkeypatch):
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    definition = CommandDefinition.model_validate(
        {
            "kind": "command",
            "argv": ["sh"],
            "probe": {"argv": ["no-such-program"]},
            "verify": {"argv": ["sh"], "env": {"T": {"env": "TRIP_TOKEN"}}},
        }
    )
    assert [problem.rpartition(": ")[0] for problem in definition.problems()] == [
        "probe: argv",
        "verify: env",
    ]
