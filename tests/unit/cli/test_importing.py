import json

import pytest

SEED = {
    "11111111-0000-4000-8000-000000000001": {
        "transaction_id": "11111111-0000-4000-8000-000000000001",
        "steps": [],
        "state": "pending",
        "created_at": "2026-02-27T12:00:00+00:00",
        "timeout_seconds": 60.0,
    },
    "11111111-0000-4000-8000-000000000002": {
        "transaction_id": "11111111-0000-4000-8000-000000000002",
        "steps": [
            {
                "step_id": "a",
                "agent_id": "flight_agent",
                "action": "reserve_flight",
                "data": {"flight_id": "F123"},
                "compensating_action": "cancel_flight",
            }
        ],
        "state": "committed",
        "created_at": "2026-02-27T12:00:00+00:00",
        "timeout_seconds": 300,
    },
}


@pytest.fixture
def left(folder):
    """Put what an earlier release left where it stands."""

    def put(document):
        folder.mkdir(parents=True)
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / "transactions.json").write_text(text)
        return text

    return put


@pytest.mark.parametrize(
    "document", [SEED, list(SEED.values()), {"transactions": SEED}], ids=["mapping", "list", "key"]
)
def test_an_earlier_release_s_file_is_taken_over_once(cli, left, folder, document):
    text = left(document)
    ran = cli("create")
    assert "2 transactions taken over" in ran.err
    assert "kept as transactions.json.orig" in ran.err
    assert (folder / "transactions.json.orig").read_text() == text
    pending, finished = SEED
    assert cli(f"status {pending}").json == SEED[pending] | {"steps": 0, "timeout_seconds": 60}
    assert cli(f"status {finished}").json["state"] == "committed"
    assert "imported from transactions.json" in cli(f"show {finished}").out
    assert cli("list --json").json["total"] == 3
    assert cli("create").err == ""
    cli("verify")


def test_a_pending_one_can_be_committed_afterwards(cli, left):
    left(
        {
            "x": {
                "state": "pending",
                "steps": [],
                "created_at": "2026-02-27T12:00:00Z",
                "timeout_seconds": 9e9,
            }
        }
    )
    cli("create")
    cli("commit x")


def test_a_finished_one_stays_as_it_was(cli, left):
    left(SEED)
    cli("create")
    name = list(SEED)[1]
    cli(f"commit {name}", code=7)
    cli(f"rollback {name}", code=7)
    assert "nothing to recover" in cli("recover").err


def test_looking_says_what_is_there_and_takes_nothing_over(cli, left, folder):
    left(SEED)
    ran = cli("status --tx-id 11111111", code=6)
    assert "holds 2 transactions of an earlier release" in ran.err
    assert not (folder / "transactions.db").exists()


def test_malformed_items_are_named_and_the_others_taken_over(cli, left):
    good = SEED["11111111-0000-4000-8000-000000000001"]
    bad = {
        "no state": {"steps": []},
        "odd state": good | {"state": "done"},
        "naive time": good | {"created_at": "2026-02-27T12:00:00"},
        "timeout": good | {"timeout_seconds": -1},
        "active": good | {"state": "active"},
        "counted": good | {"steps": 3},
        "text": "text",
        "null": None,
        "escape": good | {"transaction_id": "\x1b[2J"},
        "twice": good,
        "steps": good | {"steps": [{"step_id": "a"}]},
        "same step": good | {"steps": [{"step_id": "a", "agent_id": "b", "action": "c"}] * 2},
    }
    left({"good": good} | bad)
    ran = cli("create")
    assert "1 transaction taken over" in ran.err
    assert f"{len(bad)} could not be taken over" in ran.err
    assert "\x1b" not in ran.err
    for place in bad:
        assert f"  {place}: " in ran.err
    assert cli("list --json").json["total"] == 2


def test_a_file_that_holds_no_transactions_is_kept_as_any_foreign_one(cli, left, folder):
    text = left("my shopping list")
    assert "was not written by this program" in cli("create").err
    assert (folder / "transactions.json.orig").read_text() == text


def test_a_store_that_has_transactions_takes_nothing_over(cli, folder, left):
    cli("create")
    (folder / "transactions.json").write_text(json.dumps(SEED))
    assert "What it holds is not in the store" in cli("create").err
    assert cli("list --json").json["total"] == 2
