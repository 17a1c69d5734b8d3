"""The frozen plan and the key."""

from aumai_transactions.core.definition import Definition, idempotency_key


def test_the_deadline_is_the_timeout_after_the_beginning():
    assert Definition(created_at=1_000_000, timeout_seconds=60).deadline == 61_000_000
    assert Definition(created_at=0, timeout_seconds=0.5).deadline == 500_000


def test_the_key_differs_by_transaction_step_and_operation_and_by_nothing_else():
    keys = {
        idempotency_key(transaction, step, operation)
        for transaction in ("t", "u")
        for step in ("s1", "s2")
        for operation in ("action", "compensation")
    }
    assert len(keys) == 8
    assert idempotency_key("t", "s1", "action") == idempotency_key("t", "s1", "action")
