"""A payment that a person must allow: the transaction sleeps until then, and blocks nobody.

python examples/approval.py
"""

import tempfile
from typing import Any

from aumai_transactions import ApprovalPending, InvalidTransactionState, TransactionManager

paid: list[int] = []


def define_actions(manager: TransactionManager) -> None:
    @manager.action("hold_goods", compensating_action="release_goods")
    def hold_goods(action: str, data: dict[str, Any]) -> None:
        print(f"  holding {data['what']}")

    @manager.action("release_goods", idempotent=True)
    def release_goods(action: str, data: dict[str, Any]) -> None:
        print(f"  releasing {data['what']}")

    @manager.action(
        "pay",
        compensating_action="pay_back",
        requires_approval=lambda data: data["amount"] > 100,
        approval_timeout_seconds=7 * 86_400,
    )
    def pay(action: str, data: dict[str, Any]) -> str:
        paid.append(data["amount"])
        return f"receipt for {data['amount']}"

    @manager.action("pay_back", idempotent=True)
    def pay_back(action: str, data: dict[str, Any]) -> None:
        paid.remove(data["amount"])


def planned(manager: TransactionManager) -> None:
    print("Planned: commit() comes back, and nothing waits in a thread.")
    tx = manager.begin()
    manager.add_step(tx, "shop_agent", "hold_goods", {"what": "a piano"})
    manager.add_step(tx, "billing_agent", "pay", {"amount": 4_000})
    result = manager.commit(tx)
    assert result.waiting is not None
    assert result.waiting.reason == "approval"

    # What is shown to the person has a digest, and the approval is good for exactly that.
    asked = next(e for e in manager.get_events(tx) if e.kind == "approval_requested")
    try:
        manager.approve(tx, "s2", by="ann", digest="of-something-else")
    except InvalidTransactionState:
        print("  an approval of something else is refused")
    result = manager.approve(tx, "s2", by="ann", note="it is", digest=asked.fields["digest"])
    print(f"  {result.state}; {result.warnings[0]}")
    assert result.outputs == {"s2": "receipt for 4000"}


def interactive(manager: TransactionManager) -> None:
    print("Interactive: the agent may do something else meanwhile, and then ask again.")
    with manager.transaction(name="a sofa") as tx:
        tx.execute("shop_agent", "hold_goods", {"what": "a sofa"})
        try:
            tx.execute("billing_agent", "pay", {"amount": 900}, wait_max_seconds=0)
        except ApprovalPending as pending:
            print("  " + str(tx.describe()).partition("\n")[2].replace("\n", "\n  "))
            # A person does this elsewhere: aumai-transactions approve TX STEP
            manager.approve(tx.transaction_id, pending.step_id, by="ann", digest=pending.digest)
        print("  " + tx.execute("billing_agent", "pay", {"amount": 900}))
    assert paid == [4_000, 900]


def denied(manager: TransactionManager) -> None:
    print("Denied: what was done is undone.")
    tx = manager.begin()
    manager.add_step(tx, "shop_agent", "hold_goods", {"what": "a yacht"})
    manager.add_step(tx, "billing_agent", "pay", {"amount": 1_000_000})
    manager.commit(tx)
    result = manager.deny(tx, "s2", by="bob", note="no")
    print(f"  {result.state}: {result.error}")
    assert (result.reason, result.compensated_steps) == ("denied", ["s1"])
    assert paid == [4_000, 900]


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        TransactionManager(store=f"{folder}/shop.db") as manager,
    ):
        define_actions(manager)
        planned(manager)
        interactive(manager)
        denied(manager)


if __name__ == "__main__":
    main()
