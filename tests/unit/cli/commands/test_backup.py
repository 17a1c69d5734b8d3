"""`backup`, `restore` and `witness`, and what goes on from there."""

import json
import sqlite3

import pytest


@pytest.fixture
def lost(cli, app, made, folder, tmp_path):
    """A backup of a store whose disk died: one committed, one submitted, one that only waits."""
    done = made(("pay", "refund"))
    cli(f"commit {done} {app.option}")
    later = made(("send", "unsend"))
    cli(f"submit --tx-id {later}")
    pending = made(("pay", "refund"))
    place = tmp_path / "backup"
    cli(f"backup {place}")
    for path in sorted(folder.iterdir()):
        if path.is_file():
            path.unlink()
    return place, done, later, pending


def test_a_backup_says_what_is_in_it(cli, made, tmp_path):
    made(("pay", "refund"))
    made()
    ran = cli(f"backup {tmp_path / 'one'}")
    assert ran.out == f"{tmp_path / 'one'}: 2 transactions, 3 entries\n"
    told = cli(f"backup {tmp_path / 'two'} --json").json
    assert (told["transactions"], told["entries"], told["damaged"]) == (2, 3, {})
    assert told["path"] == str(tmp_path / "two")
    assert len(told["sha256"]) == 64


def test_a_file_that_is_there_is_refused_with_the_way_out(cli, made, tmp_path):
    made()
    (tmp_path / "there").write_text("mine")
    assert "replaces nothing" in cli(f"backup {tmp_path / 'there'}", code=1).err
    assert (tmp_path / "there").read_text() == "mine"


def test_a_backup_without_a_store_makes_none(cli, folder, tmp_path):
    cli(f"backup {tmp_path / 'backup'}", code=6)
    assert not folder.exists()
    assert not (tmp_path / "backup").exists()


def test_what_is_damaged_is_left_out_and_ends_with_1(cli, made, folder, tmp_path):
    name, other = made(("pay", "refund")), made()
    with sqlite3.connect(folder / "transactions.db") as connection:
        connection.execute("UPDATE entries SET body = hash WHERE transaction_ordinal = 1")
    connection.close()
    ran = cli(f"backup {tmp_path / 'backup'}", code=1)
    assert f"transaction {name} could not be backed up" in ran.err
    ran = cli(f"restore {tmp_path / 'backup'} --store {tmp_path / 'new.db'}")
    assert f"transaction {name} was damaged" in ran.err
    told = cli(f"list --store {tmp_path / 'new.db'} --json").json
    assert [item["transaction_id"] for item in told["items"]] == [other]


def test_a_restored_default_store_shows_what_waits_and_why(cli, lost):
    place, done, later, pending = lost
    ran = cli(f"restore {place} --note 'the disk died'")
    assert "3 transactions" in ran.out
    assert "2 were not finished in it, and wait for a person" in ran.err
    assert cli("verify").out.endswith("intact\n")
    assert cli(f"status {done}").json["state"] == "committed"
    listed = {item["transaction_id"]: item for item in cli("list --json").json["items"]}
    assert [listed[name]["attention"] for name in (done, later, pending)] == [
        None,
        "restored",
        "restored",
    ]
    assert "from a backup" in cli("list").out
    shown = cli(f"show {later} --exit-status", code=4).out
    assert "the disk died" in shown
    assert f"aumai-transactions recover --trust {later}" in shown
    told = cli("outstanding").out
    assert "it came out of a backup" in told
    assert f"aumai-transactions rollback {later}" in told
    assert len(cli("outstanding --json").json) == 2


def test_nothing_acts_on_it_before_a_person_says_so(cli, app, lost):
    place, _done, later, pending = lost
    cli(f"restore {place}")
    before = list(app.calls)
    assert "nothing to recover" in cli(f"recover {app.option}").err
    cli(f"worker --until-idle -q {app.option}")
    assert "recover --trust" in cli(f"commit {pending} {app.option}", code=7).err
    assert "recover --trust" in cli(f"retry {later} s1 {app.option}", code=7).err
    cli(f"wait {later}", code=4)
    assert app.calls == before


def test_a_person_lets_one_go_on_and_the_journal_says_who_and_why(cli, app, lost):
    place, _done, later, pending = lost
    cli(f"restore {place}")
    before = list(app.calls)
    ran = cli(f"recover --trust {later[:8]} --note 'nothing was sent' {app.option}")
    assert "finished" in ran.out
    assert app.calls[len(before) :] == ["send"]
    assert cli(f"status {later}").json["state"] == "committed"
    (given,) = [
        event
        for event in cli(f"show {later} --events --json").json
        if event["kind"] == "trust_given"
    ]
    assert given["fields"]["note"] == "nothing was sent"
    assert given["fields"]["by"]
    assert len(cli("outstanding --json").json) == 1
    cli(f"recover --trust-all --note checked {app.option}")
    assert cli("outstanding --json").json == []
    assert cli(f"commit {pending} {app.option}").code == 0


def test_a_person_lets_one_go_back(cli, app, lost):
    place, _done, later, _pending = lost
    cli(f"restore {place}")
    cli(f"rollback {later} {app.option}")
    assert cli(f"status {later}").json["state"] == "rolled_back"


@pytest.mark.parametrize(
    "words", ["--trust 0d1c", "--trust-all", "--trust-all --note ' '", "--note why"]
)
def test_trust_and_its_reason_go_together(cli, made, words):
    made()
    assert "--note" in cli(f"recover {words}", code=2).err


def test_what_was_not_restored_is_not_trusted(cli, made):
    assert "cannot trust" in cli(f"recover --trust {made()} --note why", code=7).err


def test_a_store_that_is_there_is_not_restored_over(cli, lost, made):
    place, *_ = lost
    cli(f"restore {place}")
    before = cli("list --json").out
    assert "new place" in cli(f"restore {place}", code=1).err
    assert cli("list --json").out == before
    cli(f"restore {place} --store memory:", code=2)


def test_a_file_that_is_no_backup_is_named_with_its_line(cli, tmp_path, folder):
    (tmp_path / "text").write_text("hello\n")
    assert "line 1" in cli(f"restore {tmp_path / 'text'}", code=1).err
    assert not (folder / "transactions.db").exists()
    cli(f"restore {tmp_path / 'nothing'}", code=1)


# ---------------------------------------------------------------------------------- witnesses


def test_a_witness_grows_by_what_has_moved(cli, app, made, tmp_path):
    name = made(("pay", "refund"))
    place = tmp_path / "witness"
    assert cli(f"witness {place}").out == f"{place}: 1 transaction, 1 of them new or moved\n"
    first = place.read_bytes()
    cli(f"commit {name} {app.option}")
    told = cli(f"witness {place} --json").json
    assert (told["transactions"], told["written"]) == (1, 1)
    assert place.read_bytes().startswith(first)
    assert cli(f"verify --witness {place}").out.endswith("intact\n")


def test_what_the_witness_has_seen_and_is_gone_is_named(cli, app, made, folder, tmp_path):
    name, other = made(("pay", "refund")), made()
    place = tmp_path / "witness"
    cli(f"commit {name} {app.option}")
    cli(f"witness {place}")
    with sqlite3.connect(folder / "transactions.db") as connection:
        connection.execute("DELETE FROM entries WHERE transaction_ordinal = 1")
        connection.execute("DELETE FROM transactions WHERE ordinal = 1")
    connection.close()
    cli("verify")
    told = json.loads(cli(f"verify --witness {place} --json", code=1).out)
    assert list(told["problems"]) == [name]
    assert told["is_intact"] is False
    assert name in cli(f"verify {name} --witness {place}", code=1).out
    cli(f"verify {other} --witness {place}")
    # It had ended: somebody who purges says so.
    cli(f"verify --witness {place} --purged 1d", code=1)
    cli(f"verify --witness {place} --purged 0s")


def test_a_witness_that_is_contradicted_is_not_written(cli, made, folder, tmp_path):
    made(("pay", "refund"))
    place, older = tmp_path / "witness", tmp_path / "older.db"
    cli(f"witness {place}")
    older.write_bytes((folder / "transactions.db").read_bytes())
    made()
    cli(f"witness {place}")
    before = place.read_bytes()
    (folder / "transactions.db").write_bytes(older.read_bytes())
    assert "older copy" in cli(f"witness {place}", code=1).err
    assert "older copy" in cli(f"verify --witness {place}", code=1).out
    assert place.read_bytes() == before
    other = tmp_path / "other.db"
    cli(f"create --store {other}")
    assert "Name another file" in cli(f"witness {place} --store {other}", code=1).err


@pytest.mark.parametrize("words", ["verify --witness", "witness --store nothing.db"])
def test_a_witness_that_cannot_be_had_is_named(cli, made, tmp_path, words):
    made()
    ran = cli(f"{words} {tmp_path / 'no' / 'witness'}", code=6 if "nothing" in words else 1)
    assert "no store" in ran.err or "cannot be read" in ran.err


def test_purged_without_a_witness_is_refused(cli, made):
    made()
    assert "--witness" in cli("verify --purged 30d", code=2).err
