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


COMMITTING = """
parallel_compensation = true
on_undo_window = "roll_back"
[actions.try]
kind = "command"
argv = ["sh"]
compensating_action = "cancel"
confirming_action = "confirm"
requires_approval = true
approval_timeout_seconds = 60
undo_within_seconds = 90
[actions.cancel]
kind = "command"
argv = ["sh"]
[actions.confirm]
kind = "command"
argv = ["sh"]
idempotent = true
[actions.mail]
kind = "command"
argv = ["sh"]
probe = { argv = ["sh"] }

[[steps]]
agent = "a"
action = "try"
[[steps]]
agent = "a"
action = "try"
requires_approval = false
undo_within_seconds = 5
[[steps]]
agent = "a"
action = "app"
requires_approval = true
approval_timeout_seconds = 7
confirming_action = "confirm"
[[steps]]
agent = "a"
action = "app"
pivot = true
[[steps]]
agent = "a"
action = "mail"
on_commit = true
"""


def test_what_a_step_says_wins_over_what_its_action_says(plan_file):
    plan = load_plan(plan_file(COMMITTING), known_actions=["app"])
    assert (plan.parallel_compensation, plan.allow_irreversible_first) == (True, False)
    assert plan.on_undo_window == "roll_back"
    told = [
        (
            step.requires_approval,
            step.approval_timeout_seconds,
            step.undo_within_seconds,
            step.confirming_action,
        )
        for step in plan.steps
    ]
    assert told == [
        (True, 60, 90, "confirm"),
        (False, None, 5, "confirm"),
        (True, 7, None, "confirm"),
        (False, None, None, None),
        (False, None, None, None),
    ]
    assert [step.pivot for step in plan.steps] == [False, False, False, True, False]
    assert [step.on_commit for step in plan.steps] == [False, False, False, False, True]
    assert plan.step_options == {
        "s2": StepOptions(requires_approval=False, undo_within_seconds=5),
        "s3": StepOptions(
            confirming_action="confirm", requires_approval=True, approval_timeout_seconds=7
        ),
    }


def test_what_an_action_says_about_approval_and_commit_becomes_its_policy(plan_file):
    plan = load_plan(plan_file(COMMITTING), known_actions=["app"])
    tries, cancel, _, _ = actions_for(plan.actions)
    assert (tries.confirming_action, tries.requires_approval) == ("confirm", True)
    assert (tries.approval_timeout_seconds, tries.undo_within_seconds) == (60, 90)
    assert (cancel.confirming_action, cancel.requires_approval) == (None, False)


def test_a_reference_may_say_which_type_it_needs(plan_file):
    text = """
    [[steps]]
    agent = "a"
    action = "do"
    [[steps]]
    agent = "a"
    action = "do"
    data = { id = { "$output" = "s1", at = "/id", type = "string" } }
    """
    (reference,) = load_plan(plan_file(text), known_actions=["do"]).steps[1].references
    assert reference.type == "string"


def test_whoever_insists_may_put_what_cannot_be_undone_first(plan_file):
    text = """
    allow_irreversible_first = true
    [actions.letter]
    kind = "command"
    argv = ["sh"]
    effect = "irreversible"
    [actions.room]
    kind = "command"
    argv = ["sh"]
    compensating_action = "room"
    [[steps]]
    agent = "a"
    action = "letter"
    [[steps]]
    agent = "a"
    action = "room"
    """
    plan = load_plan(plan_file(text))
    assert plan.allow_irreversible_first
    assert plan.steps[0].effect == "irreversible"
