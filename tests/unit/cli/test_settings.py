import pytest


@pytest.fixture
def stores(cli, tmp_path):
    """Three stores; each holds as many transactions as its name says."""
    paths = {}
    for name in ("one", "two", "three"):
        path = tmp_path / f"{name}.db"
        for _ in range(["one", "two", "three"].index(name) + 1):
            cli(f"create --store {path}")
        paths[name] = str(path)
    return paths


def total(ran):
    return ran.json["total"]


def test_the_later_name_of_a_store_counts(cli, stores, monkeypatch):
    monkeypatch.setenv("AUMAI_TRANSACTIONS_STORE", stores["one"])
    assert total(cli("list --json")) == 1
    assert total(cli(f"--store {stores['two']} list --json")) == 2
    assert total(cli(f"--store {stores['two']} list --store {stores['three']} --json")) == 3


def test_json_may_stand_before_the_command(cli, stores):
    assert total(cli(f"--json --store {stores['one']} list")) == 1


def test_a_url_names_a_store_too(cli, stores):
    assert total(cli(f"list --json --store sqlite:///{stores['two']}")) == 2


def test_an_empty_variable_is_no_store(cli, monkeypatch, folder):
    monkeypatch.setenv("AUMAI_TRANSACTIONS_STORE", "")
    cli("create")
    assert (folder / "transactions.db").exists()


@pytest.mark.parametrize(
    "command", ["status", "show", "commit", "rollback", "add-step --agent a --action b"]
)
def test_the_id_may_be_given_by_option(cli, command):
    name = cli("create").json["transaction_id"]
    cli(f"{command} --tx-id {name}")


def test_no_id_and_two_ids_are_refused(cli):
    assert "TX is missing" in cli("status", code=2).err
    assert "unexpected: 'b'" in cli("status a b", code=2).err
    assert "unexpected: 'b'" in cli("status --tx-id a b", code=2).err
    assert "TX is empty" in cli("status ''", code=2).err
    assert "STEP is missing" in cli("retry a", code=2).err


def test_commands_to_copy_name_the_same_store(cli, made, app, tmp_path):
    store = tmp_path / "a store.db"
    name = cli("create", "--store", str(store)).json["transaction_id"]
    for action, undo in (("pay", "refund"), ("send", "unsend")):
        cli(
            "add-step",
            name,
            "--agent",
            "a",
            "--action",
            action,
            "--compensating-action",
            undo,
            "--store",
            str(store),
        )
    app.fails("send")
    app.fails("refund")
    ran = cli("commit", name, "--store", str(store), *app.option.split(), code=4)
    assert f"aumai-transactions retry {name} s1 --store '{store}' {app.option}" in ran.out
