"""A worker that is there to be killed, stopped or told to go; started by a nursery.

What it does to the world is a line in the file `effects`: what was called, and under which key. A
call whose data says so stands still in its midst, and says `there`, until it is let go or killed.
"""
# mypy: disable-error-code="no-untyped-call, attr-defined, assignment, func-returns-value"

import os
import signal
import sys
from pathlib import Path

from aumai_transactions import TransactionManager, Worker
from aumai_transactions.stores.sqlite import liveness
from aumai_transactions.testing.kill_nursery import serve


def run(reporter, orders):
    if orders.get("leases"):
        # Nobody's lock proves anything then: who is dead is decided by leases.
        liveness.fcntl = None
    folder = Path(orders["folder"])
    manager = TransactionManager(store=f"sqlite:///{folder}/trips.db")

    def effect(text):
        line = os.open(folder / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(line, f"{text}\n".encode())
        os.close(line)

    def act(action, data, context):
        effect(f"{action} {context.idempotency_key} {orders.get('label', '')}")
        if data.get("stops") and orders.get("stops", True):
            reporter.say(f"there {context.transaction_id}")
            reporter.wait()
        if data.get("dies") and orders.get("dies", True):
            os._exit(9)
        return orders.get("label")

    manager.action("act", compensating_action="undo", idempotent=True)(act)
    manager.action("undo")(act)
    worker = Worker(
        manager,
        concurrency=orders.get("concurrency", 4),
        agents=orders.get("agents"),
        poll_seconds=0.02,
        drain_seconds=orders.get("drain", 60),
    )
    signal.signal(signal.SIGTERM, lambda *_: (reporter.say("stopping"), worker.stop()))
    reporter.say("ready")
    left = worker.run(until_idle=orders.get("until_idle", False))
    reporter.say(f"left {' '.join(left)}".strip())
    if not left:
        manager.close()


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
