"""The actions of a shop; what they do stands in a file, one line each."""

import time
from pathlib import Path

from aumai_transactions import OutcomeUnknown, StepRejected, TransactionManager

HERE = Path(__file__).parent
manager = TransactionManager()


def done(what, data):
    with (HERE / "world.txt").open("a") as file:
        file.write(f"{what} {data.get('item', '')}".strip() + "\n")


def wait_for(data):
    """Wait until a file is there, where the data names one."""
    name = data.get("wait_for")
    # Why looked for again and again: the test is another process, and only a file is between them.
    while name is not None and not (HERE / name).exists():
        time.sleep(0.01)


@manager.action("reserve", compensating_action="release", idempotent=True)
def reserve(action, data):
    wait_for(data)
    done("reserve", data)
    return {"reservation": f"r-{data.get('item', '')}"}


@manager.action("release", idempotent=True)
def release(action, data):
    if data.get("undo_waits_for"):
        wait_for({"wait_for": data["undo_waits_for"]})
    if data.get("undo_fails_without") and not (HERE / data["undo_fails_without"]).exists():
        raise StepRejected("the warehouse is closed")
    done("release", data)


@manager.action("charge", compensating_action="refund")
def charge(action, data):
    if data.get("card") == "bad":
        raise StepRejected("card declined")
    if data.get("card") == "lost":
        raise OutcomeUnknown("no answer")
    done("charge", data)
    return {"receipt": 17}


@manager.action("refund", idempotent=True)
def refund(action, data):
    done("refund", data)


@manager.action("ship", requires_approval=True)
def ship(action, data):
    done("ship", data)
    return "shipped"


@manager.action("notify", on_unknown="ask")
def notify(action, data):
    raise OutcomeUnknown("no answer")
