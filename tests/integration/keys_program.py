"""A program under an idempotency key, as a process of its own: `keys_program.py STORE [POINT]`.

It says what it called and how it ended; at the point of this name it stands still, until it is
killed or its standard input is closed.
"""

import sys

from aumai_transactions import TransactionManager


def say(text):
    # Why one write: several processes may share a pipe, and lines must not mix.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(store, stop_at=None):
    def passing(point):
        if point == stop_at:
            say(f"at {point}")
            sys.stdin.read()

    def act(action, data):
        passing(f"before {action}")
        say(f"called {action}")
        passing(f"after {action}")
        return data["n"]

    def on_event(event):
        passing(f"durable {event.kind} {event.step_id}")

    with TransactionManager(store=store, on_event=on_event) as manager:
        for name in ("first", "second"):
            manager.action(name, compensating_action="undo", idempotent=True)(act)
        manager.action("undo")(act)
        tx = manager.begin(600, idempotency_key="order-7")
        passing("begun")
        for number, name in enumerate(("first", "second")):
            manager.add_step(tx, "agent", name, {"n": number})
        passing("planned")
        result = manager.commit(tx)
        say(f"ended {result.transaction_id} {result.state.value} {result.outputs}")


if __name__ == "__main__":
    main(*sys.argv[1:])
