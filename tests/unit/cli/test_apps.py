import pytest


def test_a_manager_and_a_mapping_both_bring_handlers(cli, made, app):
    for option in (app.option, app.mapping):
        cli(f"commit {made(('pay', 'refund'))} {option}")
    assert app.calls == ["pay", "pay"]


@pytest.mark.parametrize(
    "source,attribute,said",
    [
        (None, "", "module:attribute"),
        (None, ":x", "there is no module"),
        ("x = (", ":x", "SyntaxError"),
        ("import nowhere_to_be_found", ":x", "No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(0)", ":x", "SystemExit"),
        ("raise ValueError('\\x1b[2J')", ":x", r"ValueError: \x1b[2J"),
        ("x = 1", ":y", "there is no 'y'"),
        ("x = 1", ":x", "of type int"),
        ("x = {'a': 1}", ":x", "cannot be called"),
    ],
)
def test_a_wrong_app_is_told_and_nothing_runs(  # noqa: PLR0917 (fixtures)
    cli, made, tmp_path, source, attribute, said
):
    name = made(("pay", None))
    module = f"wrong_{abs(hash((str(tmp_path), source)))}"
    if source is not None:
        (tmp_path / "here" / f"{module}.py").write_text(source)
    ran = cli(f"commit {name} --app {module}{attribute}", code=2)
    assert said in ran.err
    assert "\x1b" not in ran.err
    assert cli(f"status {name}").json["state"] == "pending"


def test_an_apps_hook_cleans_data_before_it_is_journaled(cli, made, tmp_path):
    module = f"cleaning_{abs(hash(str(tmp_path)))}"
    (tmp_path / "here" / f"{module}.py").write_text(
        "from aumai_transactions import TransactionManager\n"
        "manager = TransactionManager({'pay': lambda action, data: None},"
        " before_record=lambda step: {**step.data, 'card': '***'})\n"
    )
    name = cli("create").json["transaction_id"]
    cli(
        "add-step",
        name,
        "--agent",
        "a",
        "--action",
        "pay",
        "--data",
        '{"card": "4242"}',
        "--app",
        f"{module}:manager",
    )
    cli(f"commit {name} --app {module}:manager")
    assert "4242" not in cli(f"show {name} --json").out


def test_an_app_with_a_store_of_its_own_is_pointed_out(cli, made, tmp_path):
    name = made(("pay", None))
    module = f"storing_{abs(hash(str(tmp_path)))}"
    (tmp_path / "here" / f"{module}.py").write_text(
        "from aumai_transactions import TransactionManager\n"
        "manager = TransactionManager({'pay': lambda action, data: None}, store='own.db')\n"
    )
    assert "store of its own" in cli(f"commit {name} --app {module}:manager").err
