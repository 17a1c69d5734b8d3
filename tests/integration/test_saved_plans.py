"""A plan that was saved, changed, and carried out: the last plan counts, and nothing of the first.

Found by the fuzzer of the journal reader (`tests/fuzz`): two plans in one journal.
"""

from aumai_transactions import StepRejected


def refuse(action, data):
    raise StepRejected("declined")


def saved(make_manager, calls, **step):
    manager = make_manager(
        {
            "do": lambda action, data: calls.append("do"),
            "undo": lambda action, data: calls.append("undo"),
            "refuse": refuse,
        }
    )
    tx = manager.begin()
    manager.add_step(tx, "agent", "do", {}, **step)
    manager.save(tx)
    return manager, tx


def test_a_step_that_is_the_pivot_no_longer_is_undone_when_a_later_one_fails(make_manager):
    calls: list[str] = []
    manager, tx = saved(make_manager, calls, pivot=True)
    tx.steps[0].pivot, tx.steps[0].compensating_action = False, "undo"
    manager.add_step(tx, "agent", "refuse", {})
    result = manager.commit(tx)
    assert (result.state.value, result.clean, calls) == ("rolled_back", True, ["do", "undo"])


def test_a_plan_whose_pivot_was_taken_out_can_be_rolled_back(make_manager):
    calls: list[str] = []
    manager, tx = saved(make_manager, calls, compensating_action="undo")
    manager.add_step(tx, "agent", "do", {}, pivot=True)
    manager.save(tx)
    tx.steps.pop()
    assert manager.rollback(tx).state.value == "rolled_back"
    assert calls == ["undo"]


def test_a_plan_that_is_isolated_no_longer_waits_for_nobody(make_manager):
    calls: list[str] = []
    manager, tx = saved(make_manager, calls, resources=["account:1"])
    tx.isolation = "none"
    assert manager.commit(tx).state.value == "committed"
    kinds = [event.kind for event in manager.get_events(tx)]
    assert "locks_granted" not in kinds
