"""The command that checks a finished store: what it reads, says and returns."""
# mypy: disable-error-code="var-annotated"

import json
import sqlite3
import subprocess
import sys

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.testing.history.__main__ import main


@pytest.fixture
def bank(tmp_path):
    """A store with two transactions, and the files of what was recorded about them."""
    store = tmp_path / "bank.db"
    manager = TransactionManager(store=str(store))
    accesses = []

    def record(context, kind):
        (token,) = context.resources.values()
        accesses.append(
            {
                "position": len(accesses) + 1,
                "resource": "account:a",
                "transaction_id": context.transaction_id,
                "step_id": context.step_id,
                "kind": kind,
                "token": token,
                "key": context.idempotency_key,
                "attempt": context.attempt,
            }
        )

    @manager.action("write", compensating_action="undo", resources=["account:a"])
    def write(action, data, context):
        record(context, "write")

    @manager.action("undo")
    def undo(action, data, context):
        record(context, "undo")

    manager.action("fail")(lambda action, data: 1 / 0)
    names = []
    for actions in (["write"], ["write", "fail"]):
        tx = manager.begin()
        for action in actions:
            manager.add_step(tx, "agent", action, {})
        manager.commit(tx)
        names.append(tx.transaction_id)
    manager.close()
    told = [{"transaction_id": names[0], "state": "committed"}]
    told.append({"transaction_id": names[1], "state": "rolled_back"})
    return Bank(tmp_path, store, names, accesses, told)


class Bank:
    def __init__(self, folder, store, names, accesses, told):
        self.folder, self.store, self.names = folder, store, names
        self.accesses, self.told = accesses, told

    def arguments(self, *more):
        return [
            str(self.store),
            *("--accesses", self.file("accesses.jsonl", self.accesses)),
            *("--outcomes", self.file("outcomes.jsonl", self.told)),
            *more,
        ]

    def file(self, name, lines):
        path = self.folder / name
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
        return str(path)


def test_a_sound_history_is_told_as_a_table_and_returns_0(bank, capsys):
    assert main(bank.arguments("--complete", "--thorough")) == 0
    told = capsys.readouterr()
    assert "transactions  2 (1 committed, 1 rolled back)" in told.out
    assert "accesses      3" in told.out
    assert told.out.endswith("nothing found\n")
    assert told.err == ""


def test_what_is_found_is_told_by_invariant_and_returns_1(bank, capsys):
    bank.accesses.pop()
    bank.told.append({"transaction_id": "nobody", "state": "committed"})
    assert main(bank.arguments()) == 1
    out = capsys.readouterr().out
    assert f"I2: {bank.names[1]} is rolled back, and its step s1 still stands at account:a" in out
    assert "I7: nobody: acknowledged as committed, and gone" in out
    assert out.endswith("2 problems found\n")


def test_programs_read_json(bank, capsys):
    bank.accesses[0]["token"] = 9
    assert main(bank.arguments("--json")) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["transactions"], told["accesses"], told["sound"]) == (2, 3, False)
    assert told["invariants"]["I10"] == len(told["problems"])
    assert told["problems"][0]["transaction_ids"] == [bank.names[0]]


def test_a_damaged_journal_is_named_and_hides_no_other(bank, capsys):
    forged = "CAST(replace(CAST(body AS TEXT), 'transaction_rolled_back', 'transaction_committed')"
    with sqlite3.connect(bank.store) as db:
        where = "instr(CAST(body AS TEXT), 'transaction_rolled_back')"
        changed = db.execute(f"UPDATE entries SET body = {forged} AS BLOB) WHERE {where}")  # noqa: S608
        assert changed.rowcount == 1
    db.close()
    bank.accesses[0]["key"] = "another"
    assert main(bank.arguments("--json")) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["states"] == {"committed": 1, "unreadable": 1}
    assert (told["invariants"]["I11"], told["invariants"]["I9"]) == (1, 1)
    (damaged,) = [one for one in told["problems"] if one["invariant"] == "I11"]
    assert damaged["transaction_ids"] == [bank.names[1]]


def test_a_long_list_is_cut_for_people_and_whole_for_programs(bank, capsys):
    bank.told = [{"transaction_id": f"t{n}", "state": "committed"} for n in range(60)]
    assert main(bank.arguments()) == 1
    out = capsys.readouterr().out
    assert "and 10 more; --json has them all" in out
    assert main(bank.arguments("--json")) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 60


@pytest.mark.parametrize(
    "line,said",
    [
        ("{", "accesses.jsonl, line 2: it is not JSON"),
        ("[]", "accesses.jsonl, line 2: it must be a JSON object"),
        ("{}", "line 2: position must be a whole number, not None"),
        ('{"position": true}', "line 2: position must be a whole number, not True"),
        ('{"mood": 1}', "line 2: there is no field 'mood'; there are position, resource"),
        (
            '{"position":1,"transaction_id":"t","step_id":"s","kind":"steal"}',
            "line 2: kind must be one of read, write, undo, not 'steal'",
        ),
        ("\xff", "it is not JSON"),
    ],
)
def test_a_line_that_is_no_access_is_refused_by_its_number(bank, capsys, line, said):
    arguments = bank.arguments()
    path = bank.folder / "accesses.jsonl"
    path.write_text(f"\n{line}\n", "utf-8")
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.startswith("error: ")
    assert told.out == ""


@pytest.mark.parametrize("what", ["no store", "no file", "no text", "no outcome"])
def test_what_cannot_be_checked_returns_2_and_says_why(bank, capsys, what):
    arguments = bank.arguments()
    if what == "no store":
        arguments[0] = str(bank.folder / "elsewhere.db")
    elif what == "no file":
        (bank.folder / "outcomes.jsonl").unlink()
    elif what == "no text":
        (bank.folder / "accesses.jsonl").write_bytes(b"\xff\xfe\n")
    else:
        (bank.folder / "outcomes.jsonl").write_text('{"transaction_id": 1}\n', "utf-8")
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_an_empty_store_url_is_a_mistake_in_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "STORE_URL" in capsys.readouterr().err


def test_it_is_a_command(bank):
    command = [sys.executable, "-m", "aumai_transactions.testing.history", *bank.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing found" in done.stdout
