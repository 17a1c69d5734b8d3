import json

import pytest

from aumai_transactions.stores import open_store


@pytest.fixture
def ended(cli, made):
    """Two that have ended, and one that has not."""
    names = [made(), made()]
    for name in names:
        cli(f"rollback {name}")
    return names, made()


def listed(cli):
    return [item["transaction_id"] for item in cli("list --json").json["items"]]


def test_what_ended_before_that_age_is_deleted(cli, ended, folder):
    names, still_open = ended
    ran = cli("purge --older-than 0s --yes")
    assert ran.out.startswith("2 transactions that ended before ")
    assert ran.out.endswith(": deleted\n")
    assert listed(cli) == [still_open]
    cli(f"show {names[0]}", code=6)
    assert names[0] not in (folder / "transactions.json").read_text()
    assert cli("verify").out.startswith("1 transaction, ")
    assert cli("purge --older-than 0s --yes --json").json["purged"] == 0


def test_what_is_younger_stays(cli, ended):
    assert cli("purge --older-than 1h --yes").out.startswith("0 transactions")
    assert len(listed(cli)) == 3


def test_a_dry_run_counts_and_deletes_nothing(cli, ended):
    ran = cli("purge --older-than 0s --dry-run --json")
    assert {key: ran.json[key] for key in ("purged", "found", "dry_run")} == {
        "purged": 0,
        "found": 2,
        "dry_run": True,
    }
    assert "would be deleted" in cli("purge --older-than 0s --dry-run").out
    assert len(listed(cli)) == 3


def test_nobody_deletes_by_accident(cli, ended):
    assert "--yes" in cli("purge --older-than 0s", code=2).err
    assert "--older-than" in cli("purge --yes", code=2).err
    assert len(listed(cli)) == 3


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1.5d", "30y", "99999999w"])
def test_an_age_that_is_none_is_refused(cli, made, age):
    made()
    assert "30d" in cli("purge", f"--older-than={age}", "--yes", code=2).err


def test_no_store_is_made_to_be_purged(cli, folder):
    cli("purge --older-than 1d --yes", code=6)
    assert not folder.exists()


def test_a_postgres_store_serves_the_command_line(cli, postgres16, tmp_path):
    url = postgres16.store(password="hush")
    store = f"--store {url}"
    refused = cli(f"list {store}", code=6)
    assert "hush" not in refused.err
    made = cli(f"create --json {store}").json
    name = made["transaction_id"]
    cli(f"add-step {name} --agent a --action act {store}")
    assert cli(f"status {name} --json {store}").json["state"] == "pending"
    assert name in cli(f"list {store}").out
    assert name in cli(f"show {name} {store}").out
    assert cli(f"outstanding --json {store}").json is not None
    assert "nothing to recover" in cli(f"recover {store}").err
    cli(f"rollback {name} {store}")
    assert cli(f"verify {store}").out.startswith("1 transaction, ")
    missing = cli(f"show nothing {store}", code=6)
    assert "hush" not in missing.err
    cli(f"purge --older-than 0s --yes {store}")
    assert json.loads(cli(f"list --json {store}").out)["items"] == []
    assert list(tmp_path.rglob("transactions.*")) == []


def test_doctor_names_a_server_that_can_lose_what_it_acknowledged(
    cli, postgres16, durable_postgres
):
    for server, code in ((postgres16, 1), (durable_postgres, 0)):
        url = server.store(password="hush")
        open_store(url, create=True).close()
        ran = cli(f"doctor --json --store {url}", code=code)
        found = {item["name"]: (item["verdict"], item["value"]) for item in ran.json["findings"]}
        assert found["fsync"] == (("wrong", "off") if code else ("ok", "on"))
        assert found["store"][0] == ("note" if code else "ok")
        assert found["server clock"][0] == "ok"
        assert found["synchronous commit"] == ("ok", "on")
        assert found["postgresql version"][1].startswith("16.")
        assert "hush" not in ran.out
