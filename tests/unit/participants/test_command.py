import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from aumai_transactions.actions import Action
from aumai_transactions.core.values import checked_copy
from aumai_transactions.errors import InvalidData, NotDelivered, OutcomeUnknown, StepRejected
from aumai_transactions.participants import process as process_module
from aumai_transactions.participants.command import CommandDefinition


def definition_of(*argv, **keys):
    return CommandDefinition.model_validate({"kind": "command", "argv": list(argv), **keys})


def run(context, *argv, data=None, **keys):
    return definition_of(*argv, **keys).handler()("act", {} if data is None else data, context)


def shell(context, script, data=None, **keys):
    return run(context, "sh", "-c", script, data=data, **keys)


def python(context, program, data=None, **keys):
    return run(context, sys.executable, "-c", program, data=data, **keys)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def dies(pid: int) -> bool:
    """Whether a process ends before patience does; a killed one needs a moment to be gone."""
    tick = threading.Event()
    for _ in range(1000):
        if not is_alive(pid):
            return True
        tick.wait(0.01)
    return False


def threads_end() -> bool:
    for thread in threading.enumerate():
        if thread.name.startswith("aumai-command"):
            thread.join(10)
            if thread.is_alive():
                return False
    return True


# -------------------------------------------------------------------------------- what it gets


def test_the_data_comes_on_standard_input_and_the_context_in_the_environment(acting):
    program = (
        "import json, os, sys; print(json.dumps([json.load(sys.stdin),"
        "{k: v for k, v in os.environ.items() if k.startswith('AUMAI_')}]))"
    )
    data, variables = python(acting, program, {"name": "ü", "n": [1]})
    assert data == {"name": "ü", "n": [1]}
    assert variables == {
        "AUMAI_TRANSACTION": "tx-1",
        "AUMAI_STEP": "flight",
        "AUMAI_OPERATION": "action",
        "AUMAI_ATTEMPT": "1",
        "AUMAI_TOKEN": "7",
        "AUMAI_IDEMPOTENCY_KEY": "tx-1/flight/action",
    }


def test_an_undo_names_the_key_of_what_it_undoes(undoing):
    assert shell(undoing, 'echo "$AUMAI_COMPENSATES"') == "tx-1/flight/action"


def test_the_step_of_an_outer_command_is_not_handed_on(acting, monkeypatch):
    monkeypatch.setenv("AUMAI_COMPENSATES", "outer")
    monkeypatch.setenv("AUMAI_TRANSACTIONS_STORE", "memory:")
    assert shell(acting, 'echo "${AUMAI_COMPENSATES-none} $AUMAI_TRANSACTIONS_STORE"') == (
        "none memory:"
    )


def test_data_is_never_part_of_the_command_line(acting, tmp_path):
    hostile = {"x": "$(touch owned); `touch owned`", "--flag": "'; touch owned #"}
    assert shell(acting, "cat", hostile, cwd=str(tmp_path)) == hostile
    assert list(tmp_path.iterdir()) == []


def test_it_runs_in_its_folder_with_added_variables(acting, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "s3cret")
    env = {"PLAIN": "a b", "SECRET": {"env": "TRIP_TOKEN", "prefix": "x-"}}
    printed = shell(acting, 'pwd; echo "$PLAIN|$SECRET"', cwd=str(tmp_path), env=env)
    assert printed.splitlines() == [str(tmp_path), "a b|x-s3cret"]


def test_it_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(acting):
    program = "import os; print(os.getsid(0) == os.getpid() == os.getpgid(0))"
    assert python(acting, program) == "True"


# --------------------------------------------------------------------------- what its end means


@pytest.mark.parametrize(
    "printed,output",
    [
        ('{"id": 5}\n', {"id": 5}),
        ("17", 17),
        ("R-17\n", "R-17"),
        ("two\nlines\n\n", "two\nlines"),
        ("", None),
        (" \n", None),
        ("NaN", "NaN"),
        ("{broken", "{broken"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5_000, "9" * 5_000),
    ],
)
def test_exit_code_0_is_done_and_what_was_printed_is_the_output(printed, output, acting):
    assert run(acting, "cat", data={}, argv=["printf", "%s", printed]) == output


def test_output_that_is_not_text_is_kept_readable(acting):
    assert python(acting, "import os; os.write(1, b'a\\xff')") == "a\\xff"


def test_another_exit_code_is_not_done_and_the_last_line_of_stderr_says_why(acting):
    with pytest.raises(StepRejected, match=r"^sh ended with exit code 3: no seats left$"):
        shell(acting, "echo first >&2; echo no seats left >&2; echo >&2; exit 3")


def test_a_silent_failure_says_so(acting):
    with pytest.raises(StepRejected, match="exit code 1 and wrote nothing to stderr"):
        run(acting, "false")


def test_what_stderr_says_is_escaped_bounded_and_holds_no_secret(acting, monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "s3cret")
    program = (
        "import os, sys; sys.stderr.write('x' * 300000 + '\\n' + '\\x1b[2J' + os.environ['T']"
        " + 'y' * 5000); sys.exit(1)"
    )
    with pytest.raises(StepRejected) as caught:
        python(acting, program, env={"T": {"env": "TRIP_TOKEN"}})
    message = str(caught.value)
    assert r": \x1b[2J•••yyy" in message
    assert len(message) < 500
    assert "xxx" not in message


def test_a_signal_leaves_the_outcome_unknown(acting):
    with pytest.raises(OutcomeUnknown, match="killed by SIGKILL: almost"):
        shell(acting, "echo almost >&2; kill -9 $$")


def test_a_timeout_kills_the_whole_group_and_leaves_the_outcome_unknown(acting, tmp_path):
    started = tmp_path / "child"
    script = f"sleep 100 & echo $! > {started}; wait"
    with pytest.raises(OutcomeUnknown, match=r"not ended after 1 s, and was killed"):
        shell(acting, script, timeout_seconds=1)
    assert dies(int(started.read_text()))
    assert threads_end()


def test_an_interrupt_kills_the_group_and_passes_through(acting, tmp_path, monkeypatch):
    started = tmp_path / "pid"
    wait = subprocess.Popen.wait

    def interrupted(process, timeout=None):
        if timeout is not None and timeout > 60:
            while not started.exists() or not started.read_text():
                assert process.poll() is None
            raise KeyboardInterrupt
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shell(acting, f"echo $$ > {started}; exec sleep 100", timeout_seconds=100)
    assert dies(int(started.read_text()))


def test_a_fault_in_watching_it_is_not_taken_for_not_done(acting, monkeypatch):
    def no_more_threads(*_args, **_keys):
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    with pytest.raises(OutcomeUnknown, match="was started, and then lost"):
        run(acting, "sleep", "100")


@pytest.mark.parametrize("argv", [["no-such-program-anywhere"], ["./none"], ["/none/x"]])
def test_a_program_that_is_not_there_says_nothing_about_an_earlier_call(argv, acting, tmp_path):
    with pytest.raises(NotDelivered, match="could not be started: the program was not found"):
        run(acting, *argv, cwd=str(tmp_path))


def test_a_program_that_cannot_be_executed_says_nothing_about_an_earlier_call(acting, tmp_path):
    script = tmp_path / "script"
    script.write_text("x")
    with pytest.raises(NotDelivered, match="not executable"):
        run(acting, "./script", cwd=str(tmp_path))
    script.chmod(0o755)
    with pytest.raises(NotDelivered, match="could not be started"):
        run(acting, "./script", cwd=str(tmp_path))


def test_a_folder_that_is_not_there_says_nothing_about_an_earlier_call(acting, tmp_path):
    with pytest.raises(NotDelivered, match=r"its folder .*/gone does not exist"):
        run(acting, "true", cwd=str(tmp_path / "gone"))


def test_a_variable_that_is_missing_says_nothing_about_an_earlier_call(acting, monkeypatch):
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    with pytest.raises(NotDelivered, match="TRIP_TOKEN is not set"):
        run(acting, "true", env={"T": {"env": "TRIP_TOKEN"}})


# ----------------------------------------------------------------------------------- full pipes


def test_full_pipes_in_every_direction_stop_nothing(acting):
    program = (
        "import sys; sys.stdout.write('o' * 1_000_000); sys.stderr.write('e' * 1_000_000);"
        "sys.stdout.flush(); n = len(sys.stdin.read()); sys.stderr.write(str(n)); sys.exit(1)"
    )
    with pytest.raises(StepRejected, match="exit code 1"):
        python(acting, program, {"x": "i" * 1_000_000})
    assert threads_end()


def test_input_that_nobody_reads_is_no_fault(acting):
    assert run(acting, "true", data={"x": "i" * 1_000_000}) is None


def test_output_that_is_too_large_is_done_and_not_cut_in_silence(acting):
    program = "import sys; sys.stdout.write('o' * 20_000_000)"
    value = python(acting, program)
    assert len(value) == process_module.OUTPUT_BYTES_MAX
    # A handler's value that is too large becomes a warning (SEMANTICS C1).
    with pytest.raises(InvalidData, match="more than the"):
        checked_copy(value)


def test_something_left_in_the_background_does_not_hold_the_result_up(acting, monkeypatch):
    monkeypatch.setattr(process_module, "LEFTOVER_SECONDS_MAX", 0.2)
    pid = shell(acting, "sleep 100 & echo $!", timeout_seconds=60)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert threads_end()


# ---------------------------------------------------------------------------------- declaration


@pytest.mark.parametrize(
    "keys",
    [
        {"argv": []},
        {"argv": [""]},
        {"argv": ["a\0b"]},
        {"argv": "rm -rf /"},
        {"argv": [1]},
        {"env": {"A B": "x"}},
        {"env": {"AUMAI_STEP": "x"}},
        {"env": {"A": "x\0"}},
        {"env": {"A": 1}},
        {"cwd": ""},
        {"shell": True},
        {"timeout_seconds": 0},
        {"timeout_seconds": float("inf")},
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(keys):
    with pytest.raises(ValidationError):
        CommandDefinition.model_validate({"kind": "command", "argv": ["true"], **keys})


def test_a_definition_is_made_independent_of_the_current_folder(tmp_path):
    assert definition_of("x").located(tmp_path).cwd == str(tmp_path)
    assert definition_of("x", cwd="bin").located(tmp_path).cwd == str(tmp_path / "bin")
    assert definition_of("x", cwd="/bin").located(tmp_path).cwd == "/bin"


def test_what_is_missing_is_known_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    assert definition_of("sh", cwd=str(tmp_path)).problems() == []
    assert definition_of("./x", cwd=str(tmp_path)).problems() == [
        "argv: the program './x' was not found, or cannot be executed"
    ]
    gone = definition_of("none-such", cwd=str(tmp_path / "gone"), env={"T": {"env": "TRIP_TOKEN"}})
    assert [problem.partition(":")[0] for problem in gone.problems()] == ["cwd", "env", "argv"]


def test_the_action_says_what_its_definition_says():
    action = definition_of("true", idempotent=True, on_unknown="ask").action("tidy")
    assert isinstance(action, Action)
    assert (action.name, action.idempotent, action.on_unknown) == ("tidy", True, "ask")
    assert replace(action, is_plain=False) == action
    assert json.loads(definition_of("true").model_dump_json())["argv"] == ["true"]
