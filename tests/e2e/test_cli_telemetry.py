"""Commands that are watched, and workers whose log is read by machines."""
# mypy: disable-error-code="union-attr"

import json
import os
import signal
import subprocess
import sys

import pytest

from aumai_transactions import TransactionManager

SECONDS_MAX = 100
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
APP = """
import json, logging
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

class ToFile(SpanExporter):
    def export(self, spans):
        with open("spans", "a") as file:
            for span in spans:
                file.write(json.dumps([span.name, f"{span.context.trace_id:032x}"]) + "\\n")

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ToFile()))
trace.set_tracer_provider(provider)

log = logging.getLogger("aumai_transactions.app")

def book(action, data):
    log.warning("booked \\x1b[2J\\n%s", data["name"])

def refuse(action, data):
    raise ValueError("no")

handlers = {"book": book, "unbook": book, "refuse": refuse}
"""
NASTY = '\n{"level": "ERROR"}\u202e'


@pytest.fixture
def run(tmp_path):
    """Run a command in a folder with an app; return its exit code and its two streams."""
    (tmp_path / "app.py").write_text(APP)
    kept = {key: text for key, text in os.environ.items() if not key.startswith("OTEL_")}

    def run(*words, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "aumai_transactions", *words, "--store", str(tmp_path / "t.db")],
            cwd=tmp_path,
            env=kept | {"HOME": str(tmp_path)} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def submit(folder, *actions):
    with TransactionManager(store=folder / "t.db") as manager:
        tx = manager.begin(name="trip")
        for action in actions:
            manager.add_step(tx, "agent", action, {"name": NASTY}, "unbook")
        manager.submit(tx)
    return tx.transaction_id


def spans(folder):
    return [json.loads(line) for line in (folder / "spans").read_text().splitlines()]


def test_a_worker_tells_the_provider_that_its_app_has_set_up(run, tmp_path):
    submit(tmp_path, "book", "refuse")
    code, _, _ = run("worker", "--app", "app:handlers", "--until-idle")
    assert code == 0
    assert [name for name, _ in spans(tmp_path)] == [
        "execute_tool book",
        "execute_tool refuse",
        "compensate unbook",
        "transaction trip",
    ]
    assert len({trace_id for _, trace_id in spans(tmp_path)}) == 1


def test_a_command_stands_below_the_caller_that_its_environment_names(run, tmp_path):
    plan = tmp_path / "trip.toml"
    plan.write_text(
        'name = "trip"\n[[steps]]\nagent = "a"\naction = "book"\n[steps.data]\nname = "x"\n'
    )
    code, _, err = run("run", str(plan), "--app", "app:handlers", TRACEPARENT=CALLER)
    assert code == 0, err
    assert {trace_id for _, trace_id in spans(tmp_path)} == {CALLER.split("-")[1]}


def test_who_switches_the_sdk_off_is_not_watched(run, tmp_path):
    submit(tmp_path, "book")
    run("worker", "--app", "app:handlers", "--until-idle", OTEL_SDK_DISABLED="true")
    assert not (tmp_path / "spans").exists()


def test_without_any_sign_of_it_a_command_loads_nothing_of_opentelemetry(run, tmp_path):
    (tmp_path / "plain.py").write_text(
        "import atexit, sys\n"
        "handlers = {'book': lambda action, data: None}\n"
        "atexit.register(lambda: print('opentelemetry' in sys.modules))\n"
    )
    submit(tmp_path, "book")
    _, out, _ = run("worker", "--app", "plain:handlers", "--until-idle")
    assert out == "False\n"


@pytest.mark.parametrize("level,fewest", [("info", 5), ("debug", 12)])
def test_with_json_every_line_of_a_worker_is_an_object(run, tmp_path, level, fewest):
    name = submit(tmp_path, "book", "refuse")
    options = ("--until-idle", "--log-format", "json", "--log-level", level)
    code, out, err = run("worker", "--app", "app:handlers", *options)
    assert (code, out) == (0, "")
    told = [json.loads(line) for line in err.splitlines()]
    assert len(told) >= fewest
    assert all(line.isprintable() for line in err.splitlines())
    booked = [line for line in told if line["logger"] == "aumai_transactions.app"]
    assert booked[0]["message"] == f"booked \x1b[2J\n{NASTY}"
    assert len(booked[0]["trace_id"]) == 32
    ended = [line for line in told if line.get("kind") == "transaction_rolled_back"]
    assert [line["transaction_id"] for line in ended] == [name]
    kinds = {line.get("kind") for line in told}
    assert ("step_started" in kinds) == (level == "debug")


def test_an_error_of_the_command_line_is_an_object_as_well(run, tmp_path):
    submit(tmp_path, "book")
    code, _, err = run("worker", "--app", "app:nothing", "--until-idle", "--log-format", "json")
    assert code == 2
    (told,) = [json.loads(line) for line in err.splitlines()]
    assert told["level"] == "ERROR"
    assert "there is no 'nothing' in it" in told["message"]


def test_as_text_what_agents_have_written_is_escaped_in_one_line(run, tmp_path):
    submit(tmp_path, "book")
    _, _, err = run("worker", "--app", "app:handlers", "--until-idle")
    (line,) = [line for line in err.splitlines() if "booked" in line]
    assert line.endswith(r'warning: booked \x1b[2J\n\n{"level": "ERROR"}\u202e')


def test_a_signal_is_answered_in_json_too(run, tmp_path):
    submit(tmp_path, "book")
    words = ["worker", "--app", "app:handlers", "--log-format", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aumai_transactions", *words, "--store", str(tmp_path / "t.db")],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    told = [json.loads(process.stderr.readline())]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS_MAX)
    told += [json.loads(line) for line in err.splitlines()]
    assert process.returncode == 0
    assert any(line["message"].startswith("stopping: waiting") for line in told)


def test_an_unknown_level_is_a_usage_error(run):
    code, _, err = run("worker", "--log-level", "loud")
    assert code == 2
    assert "loud" in err
