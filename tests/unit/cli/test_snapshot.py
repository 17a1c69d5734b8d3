import json
import shutil

import pytest

from aumai_transactions.cli import snapshot


@pytest.fixture
def path(folder):
    return folder / "transactions.json"


def read(path):
    return json.loads(path.read_text())


def test_the_snapshot_holds_what_status_prints_and_no_data(cli, made, app, path):
    name = made(("pay", "refund"))
    cli("add-step", name, "--agent", "a", "--action", "send", "--data", '{"secret": "4242"}')
    cli(f"commit {name} {app.option}")
    found = read(path)["transactions"][name]
    status = cli(f"status {name}").json
    assert {key: found[key] for key in status} == status
    assert [(step["action"], step["state"]) for step in found["step_states"]] == [
        ("pay", "succeeded"),
        ("send", "succeeded"),
    ]
    assert "4242" not in path.read_text()
    assert "did" not in path.read_text()


def test_the_counter_grows_with_every_change_and_looking_changes_nothing(cli, path):
    cli("create")
    first = path.read_bytes()
    for command in ("list", "recover", "verify", "outstanding"):
        cli(command)
    assert path.read_bytes() == first
    cli("create")
    assert read(path)["changes"] > json.loads(first)["changes"]
    assert read(path)["store_id"] == json.loads(first)["store_id"]


def test_another_store_has_no_snapshot(cli, tmp_path, folder):
    cli(f"create --store {tmp_path}/other.db")
    assert not (tmp_path / "other.json").exists()
    assert not folder.exists()


def test_the_default_store_by_its_own_name_has_one(cli, path, folder):
    cli("create")
    path.unlink()
    cli(f"create --store {folder}/transactions.db")
    assert read(path)["total"] == 2


def test_an_edited_snapshot_is_kept_and_named(cli, path, folder):
    cli("create")
    edited = path.read_text().replace('"pending"', '"committed"')
    path.write_text(edited)
    ran = cli("create")
    assert "had been edited" in ran.err
    assert "import" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert (folder / "transactions.json.orig").read_text() == edited
    assert read(path)["total"] == 2
    assert cli("create").err == ""


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1, 2]", b"\xff\xfe", b"[" * 100_000, b'{"store_id": 5}']
)
def test_a_foreign_file_is_kept_whatever_it_holds(cli, path, folder, content):
    cli("create")
    path.write_bytes(content)
    assert "kept as transactions.json.orig" in cli("create").err
    assert (folder / "transactions.json.orig").read_bytes() == content
    assert read(path)["total"] == 2


def test_no_kept_file_is_ever_replaced(cli, path, folder):
    cli("create")
    for number in range(3):
        path.write_text(f"foreign {number}")
        cli("create")
    kept = sorted(folder.glob("transactions.json.orig*"))
    assert [file.name for file in kept] == [
        "transactions.json.orig",
        "transactions.json.orig.2",
        "transactions.json.orig.3",
    ]
    assert [file.read_text() for file in kept] == ["foreign 0", "foreign 1", "foreign 2"]


def test_a_snapshot_of_another_store_is_kept(cli, path, folder, tmp_path):
    cli("create")
    other = path.read_bytes()
    shutil.rmtree(folder)
    cli("create")
    path.write_bytes(other)
    assert "was written for another store" in cli("create").err
    assert (folder / "transactions.json.orig").read_bytes() == other


def test_a_newer_snapshot_of_the_same_store_is_left_alone(cli, path, folder):
    cli("create")
    older = (folder / "transactions.db").read_bytes()
    for _ in range(5):
        cli("create")
    newer = path.read_bytes()
    (folder / "transactions.db").write_bytes(older)
    assert "restored from a backup" in cli("create").err
    assert path.read_bytes() == newer


def test_a_lost_store_is_not_replaced_by_an_empty_one(cli, path, folder):
    cli("create")
    (folder / "transactions.db").unlink()
    before = path.read_bytes()
    for command, code in (("create", 1), ("list", 6), ("status x", 6)):
        ran = cli(command, code=code)
        assert "is gone" in ran.err
        assert str(path) in ran.err
        assert not (folder / "transactions.db").exists()
    assert path.read_bytes() == before
    path.rename(path.with_suffix(".away"))
    cli("create")


def test_a_folder_in_its_place_stops_no_command(cli, path):
    cli("create")
    path.unlink()
    path.mkdir()
    assert "was not written" in cli("create").err
    assert path.is_dir()


def test_only_the_open_and_the_latest_are_kept(cli, path, monkeypatch):
    monkeypatch.setattr(snapshot, "OPEN_MAX", 2)
    monkeypatch.setattr(snapshot, "LATEST_MAX", 2)
    names = []
    for number in range(6):
        names.append(cli("create").json["transaction_id"])
        if number in (1, 4, 5):
            cli(f"commit {names[-1]}")
    assert list(read(path)["transactions"]) == [names[2], names[3], names[4], names[5]]
    assert read(path)["total"] == 6


def test_what_a_killed_writer_left_is_swept(cli, folder):
    cli("create")
    (folder / ".transactions.json.0123456789abcdef").write_text("half")
    cli("create")
    assert list(folder.glob(".transactions.json.*")) == []
