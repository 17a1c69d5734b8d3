"""What a plan file says about resources, from the file into a transaction."""

import pytest

from aumai_transactions import Resource, TransactionManager
from aumai_transactions.cli.commands.run import begun
from aumai_transactions.errors import PlanFileError
from aumai_transactions.plans import actions_for, load_plan

TEXT = """
isolation = "validated"
lock_timeout_seconds = 5
release_outstanding_locks = true

[actions.debit]
kind = "command"
argv = ["true"]
effect = "none"
resources = ["Account:{account}", { name = "rate:{/money/unit}", mode = "shared" }]

[[steps]]
agent = "a"
action = "debit"
data = { account = 42, money = { unit = "usd" } }
resources = ["limit:{account}", { name = "https://Shop.example:443/a", mode = "shared" }]

[[steps]]
agent = "a"
action = "debit"
data = { account = 7, money = { unit = "eur" } }
"""


def test_what_actions_and_steps_use_is_filled_in_and_locked(plan_file):
    plan = load_plan(plan_file(TEXT))
    own = (
        Resource(name="limit:42"),
        Resource(name="https://shop.example/a", mode="shared"),
    )
    assert plan.options_of("s1").resources == own
    assert plan.options_of("s2").resources is None
    with TransactionManager(action_source=actions_for) as manager:
        transaction = begun(manager, plan)
        assert transaction.isolation == "validated"
        assert transaction.lock_timeout_seconds == 5
        assert transaction.release_outstanding_locks is True
        assert manager.commit(transaction).state.value == "committed"
        events = manager.get_events(transaction)
    granted = [event.fields["grants"] for event in events if event.kind == "locks_granted"]
    names = [grant["name"] for grant in granted[0]]
    assert names == ["account:42", "account:7", "limit:42"]
    (read,) = [event.fields["versions"] for event in events if event.kind == "versions_read"]
    assert [item["name"] for item in read] == ["https://shop.example/a", "rate:eur", "rate:usd"]


def test_what_an_action_uses_goes_into_the_journal_with_it(plan_file):
    plan = load_plan(plan_file(TEXT))
    uses = plan.actions["debit"]["resources"]
    assert uses == ["Account:{account}", {"name": "rate:{/money/unit}", "mode": "shared"}]
    (action,) = actions_for(plan.actions)
    wanted = ["Account:{account}", Resource(name="rate:{/money/unit}", mode="shared")]
    assert action.resources == wanted


@pytest.mark.parametrize(
    "old,new,told",
    [
        ('["limit:{account}"', '["limit:{nothing}"', "steps[1].resources[1]: data.nothing must be"),
        ('["limit:{account}"', '[" :"', "steps[1].resources[1]: resource must name something"),
        ('["limit:{account}"', "[7", "steps[1].resources[1]"),
        (
            'mode = "shared" }]\n\n[[steps]]\nagent = "a"\naction',
            'mode = "no" }]\n\n[[steps]]\nagent = "a"\naction',
            "mode",
        ),
        ('isolation = "validated"', 'isolation = "serial"', "isolation"),
        ("lock_timeout_seconds = 5", "lock_timeout_seconds = 0", "lock_timeout_seconds"),
        (
            "{ account = 42,",
            '{ account = { "$output" = "s2" },',
            'depends on an output ("account")',
        ),
    ],
)
def test_a_mistake_about_resources_is_named_with_its_place(plan_file, old, new, told):
    assert old in TEXT
    with pytest.raises(PlanFileError) as caught:
        load_plan(plan_file(TEXT.replace(old, new)))
    assert told in str(caught.value)
