"""Retries, timeouts and questions, from the file into the plan."""

from aumai_transactions.models import RetryPolicy
from aumai_transactions.plans import StepOptions, actions_for, load_plan

TEXT = """
[actions.look]
kind = "http"
url = "https://h.example/{data.id}"
effect = "none"

[actions.look.retry]
attempts_max = 4
first_delay_seconds = 1
delay_factor = 3
delay_seconds_max = 20
jitter = 0
budget_seconds = 90

[actions.look.probe]
url = "https://h.example/?key={forward_key}"
missing = "not_done"
retry = { attempts_max = 7 }

[actions.run]
kind = "command"
argv = ["sh"]
retry = {}
verify = { argv = ["sh", "-c", "exit 3"], retry = { attempts_max = 8 } }

[[steps]]
agent = "a"
action = "look"
data = { id = 1 }
retry = { attempts_max = 2 }
timeout_seconds = 9

[[steps]]
agent = "a"
action = "run"
timeout_seconds = 0.5

[[steps]]
name = "plain"
agent = "a"
action = "run"
"""


def test_what_a_step_says_about_its_calls_is_found_by_its_id(plan_file):
    plan = load_plan(plan_file(TEXT))
    assert [step.step_id for step in plan.steps] == ["s1", "s2", "plain"]
    assert plan.step_options == {
        "s1": StepOptions(RetryPolicy(attempts_max=2), 9),
        "s2": StepOptions(None, 0.5),
    }
    assert plan.options_of("s2") == StepOptions(None, 0.5)
    assert plan.options_of("plain") == StepOptions()


def test_what_an_action_says_about_its_calls_becomes_its_policy(plan_file):
    look, run = actions_for(load_plan(plan_file(TEXT)).actions)
    assert look.retry == RetryPolicy(
        attempts_max=4,
        first_delay_seconds=1,
        delay_factor=3,
        delay_seconds_max=20,
        jitter=0,
        budget_seconds=90,
    )
    assert look.probe_retry == RetryPolicy(attempts_max=7)
    assert look.probe is not None
    assert (look.verify, look.verify_retry) == (None, None)
    assert run.retry == RetryPolicy()
    assert (run.probe, run.probe_retry) == (None, None)
    assert run.verify is not None
    assert run.verify_retry == RetryPolicy(attempts_max=8)


def test_an_undo_may_refer_to_an_output_that_its_action_does_not_know(plan_file):
    text = """
    [actions.do]
    kind = "http"
    url = "https://h.example/"
    compensating_action = "undo"
    [actions.undo]
    kind = "http"
    method = "DELETE"
    url = "https://h.example/{output.id}"
    [[steps]]
    agent = "a"
    action = "do"
    """
    assert load_plan(plan_file(text)).actions["undo"]["url"] == "https://h.example/{output.id}"
