"""A payment whose answer is lost. Nobody guesses: the bank is asked what became of it.

python examples/unknown_outcome.py
"""

from typing import Any

from aumai_transactions import (
    Done,
    NotDone,
    RetryPolicy,
    StepContext,
    StepRejected,
    TransactionManager,
    Unknown,
)

payments: dict[str, int] = {}
refused: set[str] = set()
weather = "fine"

manager = TransactionManager()


@manager.action(
    "pay",
    compensating_action="pay_back",
    probe_retry=RetryPolicy(attempts_max=2, first_delay_seconds=0.1),
)
def pay(action: str, data: dict[str, Any], context: StepContext) -> dict[str, Any]:
    if weather == "lost on the way there":
        raise ConnectionResetError("the bank hung up")
    if context.idempotency_key in refused:
        raise StepRejected("somebody has asked about this payment before it came")
    payments[context.idempotency_key] = data["amount"]
    if weather in ("lost on the way back", "storm"):
        raise TimeoutError("the bank did not answer")
    return {"paid": data["amount"]}


@pay.probe
def find_payment(data: dict[str, Any], context: StepContext) -> Done | NotDone | Unknown:
    if weather == "storm":
        return Unknown("the bank cannot be reached")
    if context.forward_key in payments:
        return Done({"paid": payments[context.forward_key]})
    # The promise in "not done": from now on this bank refuses the key, should the call still come.
    refused.add(context.forward_key)
    return NotDone("the bank has refused it now")


@manager.action("pay_back", idempotent=True)
def pay_back(action: str, data: dict[str, Any], context: StepContext) -> None:
    was_there = payments.pop(context.forward_key, None) is not None
    print(f"  paid back, in doubt: {context.in_doubt}, there was a payment: {was_there}")


@manager.action("send_goods", effect="none")
def send_goods(action: str, data: dict[str, Any], context: StepContext) -> None:
    print(f"  goods are sent, {context.outputs['s1']['paid']} were paid")


def buy(what_happens: str) -> str:
    global weather  # noqa: PLW0603 (the outside world changes)
    weather = what_happens
    tx = manager.begin()
    manager.add_step(tx, "billing_agent", "pay", {"amount": 120})
    manager.add_step(tx, "shop_agent", "send_goods", {})
    print(f"\nThe weather is: {weather}")
    result = manager.commit(tx)
    for event in manager.get_events(tx)[4:]:
        answer = event.fields.get("answer", "")
        print(f"  {event.sequence:2} {event.kind} {event.step_id or ''} {answer}".rstrip())
    print(f"  {result.state.value}, payments at the bank: {len(payments)}")
    return result.state.value


def main() -> None:
    assert buy("fine") == "committed"
    # The money is gone and the answer as well. Asking tells, so that nobody pays twice.
    assert buy("lost on the way back") == "committed"
    assert list(payments.values()) == [120, 120]
    # The same error for the caller, another truth: here nothing was paid.
    assert buy("lost on the way there") == "rolled_back"
    assert list(payments.values()) == [120, 120]
    assert len(refused) == 1
    # Nobody can tell. So it is undone, and undoing nothing would do no harm.
    assert buy("storm") == "rolled_back"
    assert list(payments.values()) == [120, 120]


if __name__ == "__main__":
    main()
