import random

from aumai_transactions import RetryPolicy, TransactionManager
from aumai_transactions.testing.clock import ManualClock


def test_the_jitter_of_a_wait_leaves_the_programs_own_dice_alone():
    calls = []

    def flaky(action, data):
        calls.append(action)
        if len(calls) < 3:
            raise ValueError("not yet")

    manager = TransactionManager(clock=ManualClock(1_000_000))
    manager.action("flaky", retry=RetryPolicy(attempts_max=3, first_delay_seconds=0.1))(flaky)
    tx = manager.begin()
    manager.add_step(tx, "a", "flaky", {})
    random.seed(7)
    before = random.getstate()
    assert manager.commit(tx).state == "committed"
    assert len(calls) == 3
    assert random.getstate() == before
