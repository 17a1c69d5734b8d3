"""A script without a manager: plain functions become steps inside `with transaction():`.

python examples/step_in_a_script.py

The journal is the command line's own store, so that `aumai-transactions list` shows what this
script does; here it is put into a temporary folder.
"""

import os
import shutil
import tempfile
from pathlib import Path

from aumai_transactions import step, transaction, transactional

FOLDER = tempfile.TemporaryDirectory()
HOME = Path(FOLDER.name)


# An undo takes any of the step's own arguments by name, and `result`, what it returned.
def shred(customer: str, result: str | None) -> None:
    (HOME / f"{customer}.txt").unlink(missing_ok=True)
    print(f"  shredded the contract of {customer}, {result}")


# Functions of the main program need a name, for another process has to find them after a crash.
@step(name="sign_contract", compensating_action=shred)
def sign_contract(customer: str, months: int = 12) -> str:
    """Sign a contract, and return its number."""
    (HOME / f"{customer}.txt").write_text(f"{months} months", "utf-8")
    return f"C-{months}-{len(customer)}"


# A function that calls steps need not be one: they stand in the same transaction.
def take_on(customer: str, deposit: int) -> str:
    number = sign_contract(customer, months=24)
    if deposit < 100:
        raise ValueError(f"{customer} has not paid a deposit")
    return number


def remove_copy(dst: str) -> None:
    Path(dst).unlink(missing_ok=True)


def main() -> None:
    print("Outside of a transaction it is just the function:", sign_contract("Ada"))

    with transaction(name="take on Bob"):
        print("Inside it is journaled, and typed:", take_on("Bob", deposit=200))

    print("An exception that leaves the block undoes it:")
    try:
        with transaction(name="take on Eve"):
            take_on("Eve", deposit=0)
    except ValueError as error:
        print(f"  {error}")
    assert sorted(path.name for path in HOME.glob("*.txt")) == ["Ada.txt", "Bob.txt"]

    print("Functions that one does not own become steps in one line:")
    copy = transactional(shutil.copyfile, compensating_actions={"copyfile": remove_copy})
    try:
        with transaction(name="copy"):
            copy(str(HOME / "Ada.txt"), str(HOME / "copy.txt"))
            assert (HOME / "copy.txt").exists()
            take_on("Tom", deposit=0)
    except ValueError:
        print("  the copy is", "there" if (HOME / "copy.txt").exists() else "gone")
    assert not (HOME / "copy.txt").exists()


if __name__ == "__main__":
    with FOLDER:
        os.environ["AUMAI_TRANSACTIONS_STORE"] = f"sqlite:///{HOME}/journal.db"
        main()
