"""A worker that carries out bookings over HTTP until it is killed, or told to go."""

import sys
import threading

from aumai_transactions import TransactionManager, Worker
from aumai_transactions.participants.http import http_action
from aumai_transactions.testing.kill_nursery import serve


def actions_of(port):
    """What can be done with the hotel at this port."""
    place = f"http://127.0.0.1:{port}"
    uses = ["room:{room}"]
    return [
        http_action(
            "book",
            url=f"{place}/book",
            idempotent=True,
            compensating_action="cancel",
            resources=uses,
            timeout_seconds=10,
        ),
        http_action(
            "refuse",
            url=f"{place}/refuse",
            idempotent=True,
            compensating_action="cancel",
            resources=uses,
            timeout_seconds=10,
        ),
        http_action("cancel", url=f"{place}/cancel", idempotent=True, timeout_seconds=10),
    ]


def run(reporter, orders):
    manager = TransactionManager(store=orders["store"])
    for action in actions_of(orders["port"]):
        manager.actions.add(action)
    worker = Worker(manager, concurrency=3, poll_seconds=0.1, drain_seconds=30)

    def end():
        reporter.wait()
        worker.stop()

    threading.Thread(target=end, daemon=True).start()
    reporter.say("ready")
    worker.run()
    manager.close()


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
