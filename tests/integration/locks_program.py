"""A program that uses a resource, as a process of its own: `locks_program.py STORE COUNTER TIMES`.

Each transaction reads the number in the file COUNTER and writes the next one, which only the lock
makes safe; with TIMES 0 it takes the resource, and stands still until it is killed.
"""

import sys
from pathlib import Path

from aumai_transactions import TransactionManager


def say(text):
    # Why one write: several processes may share a pipe, and lines must not mix.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(store, counter, times):
    def count(action, data, context):
        number = int(Path(counter).read_text("utf-8"))
        say(f"token {context.resources['counter']}")
        Path(counter).write_text(str(number + 1), "utf-8")

    with TransactionManager(store=store) as manager:
        manager.action("count", compensating_action="undo", resources=["counter"])(count)
        manager.action("undo")(lambda action, data: None)
        for _ in range(int(times)):
            with manager.transaction(lock_timeout_seconds=60) as tx:
                tx.execute("agent", "count", {})
        if times == "0":
            with manager.transaction() as tx:
                tx.execute("agent", "count", {})
                say("has it")
                sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
