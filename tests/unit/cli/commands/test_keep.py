import sqlite3

import pytest


@pytest.fixture
def damaged(cli, made, folder):
    name, other = made(("pay", "refund")), made()
    with sqlite3.connect(folder / "transactions.db") as connection:
        connection.execute("UPDATE entries SET body = CAST(replace(body, 'pay', 'PAY') AS BLOB)")
    connection.close()
    return name, other


def test_an_intact_store_is_verified(cli, made):
    name = made(("pay", "refund"))
    made()
    assert cli("verify").out == "2 transactions, 3 entries: intact\n"
    assert cli(f"verify {name[:8]}").out == "1 transaction, 2 entries: intact\n"
    assert cli("verify --json").json["is_intact"] is True


def test_damage_is_found_by_name_and_ends_with_1(cli, damaged):
    name, other = damaged
    ran = cli("verify", code=1)
    assert name in ran.out
    assert other not in ran.out
    cli(f"verify {other}")
    assert list(cli("verify --json", code=1).json["problems"]) == [name]


def test_a_damaged_journal_stops_no_other_transaction(cli, damaged):
    name, other = damaged
    assert "is damaged at entry" in cli(f"show {name}", code=1).err
    cli(f"commit {other}")
    assert len(cli("list --json").json["items"]) == 2


def test_doctor_is_content_with_a_new_store(cli, made, folder):
    made()
    ran = cli("doctor")
    assert str(folder / "transactions.db") in ran.out
    assert "all is well" in ran.out
    found = cli("doctor --json").json
    assert found["ok"] is True
    names = {finding["name"] for finding in found["findings"]}
    assert {"python", "sqlite version", "clock", "free disk", "store", "snapshot"} <= names


def test_doctor_answers_where_there_is_no_store_and_makes_none(cli, folder):
    ran = cli("doctor")
    assert str(folder / "transactions.db") in ran.out
    assert "sqlite version" in ran.out
    assert not folder.exists()


def test_doctor_finds_a_store_that_others_can_read(cli, made, folder):
    made()
    (folder / "transactions.db").chmod(0o644)
    assert "others can read it" in cli("doctor", code=1).out


def test_doctor_finds_a_folder_that_others_can_read(cli, made, folder):
    made()
    folder.chmod(0o755)
    assert "folder mode" in cli("doctor", code=1).out


def test_doctor_finds_a_file_that_is_no_store(cli, tmp_path):
    (tmp_path / "other.db").write_text("text")
    ran = cli(f"doctor --store {tmp_path / 'other.db'}", code=1)
    assert "not a store" in ran.out
