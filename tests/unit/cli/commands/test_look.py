import importlib
import re

import pytest


def test_status_prints_what_the_seed_prints(cli):
    name = cli("create --timeout 60").json["transaction_id"]
    ran = cli(f"status --tx-id {name}")
    assert list(ran.json) == [
        "transaction_id",
        "state",
        "steps",
        "created_at",
        "timeout_seconds",
    ]
    assert ran.json["steps"] == 0
    assert ran.out.endswith('"timeout_seconds": 60\n}\n')


def test_a_unique_beginning_of_an_id_is_enough(cli):
    name = cli("create").json["transaction_id"]
    assert cli(f"status {name[:8]}").json["transaction_id"] == name


def test_an_ambiguous_beginning_lists_the_candidates(cli):
    names = [cli("create").json["transaction_id"] for _ in range(17)]
    first = {name[0] for name in names}
    shared = next(letter for letter in first if sum(n.startswith(letter) for n in names) > 1)
    ran = cli(f"status {shared}", code=2)
    assert "several transactions begin with" in ran.err
    for name in names:
        assert (name in ran.err) is name.startswith(shared)


@pytest.mark.parametrize("name", ["nope", "%", "_", "*", "\x1b[2J", "\udcff", "é", "x" * 5000])
def test_an_id_that_does_not_exist_ends_with_6(cli, name):
    cli("create")
    ran = cli("status", name, code=6)
    assert "no transaction" in ran.err
    assert not ran.out


@pytest.mark.parametrize(
    "command",
    [
        *("status x", "show x", "list", "outstanding", "recover", "verify", "commit x"),
        *("rollback x", "retry x s1", "resolve x s1 --undone --note n", "check x"),
        "add-step x --agent a --action b",
    ],
)
def test_only_create_and_run_make_a_store(cli, command, folder, tmp_path):
    ran = cli(command, code=6)
    assert str(folder) in ran.err
    assert not folder.exists()
    missing = tmp_path / "here" / "missing.db"
    ran = cli(f"{command} --store missing.db", code=6)
    assert str(missing) in ran.err
    assert not missing.exists()


@pytest.mark.parametrize("content", [b"", b"this is text", b"SQLite format 3\0" + bytes(100)])
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(cli, tmp_path, content):
    path = tmp_path / "other.db"
    path.write_bytes(content)
    for command in ("list", "create"):
        assert str(path) in cli(f"{command} --store {path}", code=1).err
    assert path.read_bytes() == content


def test_a_folder_is_no_store(cli, tmp_path):
    assert "is a directory" in cli(f"list --store {tmp_path}", code=1).err


def test_a_password_in_a_stores_name_is_never_shown(cli):
    ran = cli("list --store mysql://me:hunter2@db/trips", code=1)
    assert "hunter2" not in ran.err
    assert "•••" in ran.err
    ran = cli("list --store postgresql://me:hunter2@127.0.0.1:1/trips", code=1)
    assert "hunter2" not in ran.err
    assert "127.0.0.1:1, database trips" in ran.err


def test_show_has_each_compensation_beside_the_step_it_undoes(cli, made, app):
    name = made(("pay", "refund"), ("send", "unsend"))
    app.fails("send", "no \x1b[31mstamps")
    cli(f"commit {name} {app.option}", code=3)
    lines = cli(f"show {name}").out.splitlines()
    pay = next(line for line in lines if line.split()[:1] == ["s1"])
    assert pay.split()[1:4] == ["an_agent", "pay", "done"]
    assert "refund" in pay
    assert "undone" in pay.partition("refund")[2]
    assert r"RuntimeError: no \x1b[31mstamps" in "\n".join(lines)
    assert name in lines[0]


def test_show_events_prints_the_journal_entry_by_entry(cli, made, app):
    name = made(("pay", "refund"))
    cli(f"commit {name} {app.option}")
    kinds = [line.split()[2] for line in cli(f"show {name} --events").out.splitlines()[1:]]
    assert kinds[0] == "plan_recorded"
    assert kinds[-1] == "transaction_committed"
    assert [event["kind"] for event in cli(f"show {name} --events --json").json] == kinds


def test_show_json_holds_everything(cli, made, app):
    name = made(("pay", "refund"))
    cli(f"commit {name} {app.option}")
    found = cli(f"show {name} --json").json
    assert list(found) == [
        "transaction",
        "result",
        "groups",
        "approvals",
        "is_alive",
        "events",
    ]
    assert (found["groups"], found["approvals"], found["is_alive"]) == ([], [], None)
    assert found["transaction"]["steps"][0]["action"] == "pay"
    assert found["result"]["outputs"] == {"s1": {"did": "pay"}}


def test_list_is_newest_first_and_says_how_many_more_there_are(cli):
    names = [cli("create").json["transaction_id"] for _ in range(5)]
    ran = cli("list --limit 2")
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == names[:2:-1]
    assert "3 more" in ran.err
    assert [item["transaction_id"] for item in cli("list --oldest --json").json["items"]] == names
    assert len(cli("list --limit 0").out.splitlines()) == 6


def test_list_chooses_by_state_and_by_what_needs_a_person(cli, made, app):
    pending, committed, left = made(), made(), made(("pay", "refund"), ("send", None))
    cli(f"commit {committed}")
    app.fails("send")
    app.fails("refund")
    cli(f"commit {left} {app.option}", code=4)

    def listed(options):
        return [item["transaction_id"] for item in cli(f"list --json {options}").json["items"]]

    assert listed("--state pending") == [pending]
    assert listed("--state pending --state committed") == [committed, pending]
    assert listed("--attention") == [left]
    assert cli("list --state active").err == "no transactions like that\n"
    cli("list --exit-status", code=4)
    cli("list --state pending --exit-status", code=0)
    assert "a person: effect may stand" in cli("list --attention").out


def test_exit_status_turns_the_outcome_into_the_exit_code(cli, made, app):
    pending, committed, back = made(), made(), made(("pay", None))
    cli(f"commit {committed}")
    app.fails("pay")
    cli(f"commit {back} {app.option}", code=3)
    for command in ("status", "show"):
        cli(f"{command} {pending} --exit-status", code=5)
        cli(f"{command} {committed} --exit-status", code=0)
        cli(f"{command} {back} --exit-status", code=3)
        cli(f"{command} {back}", code=0)


def test_piped_output_is_neither_coloured_nor_shortened(cli, made):
    name = cli("create").json["transaction_id"]
    agent = "a" * 300
    cli("add-step", name, "--agent", agent, "--action", "b")
    for command in ("list", f"show {name}"):
        out = cli(command).out
        assert agent in out
        assert "\x1b" not in out


def test_force_color_colours_a_pipe(cli, made, monkeypatch):
    name = made()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli(f"show {name}").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cli(f"show {name}").out


@pytest.fixture
def waiting(cli, made, app):
    """A transaction whose second step is tried again in an hour."""
    name = made(("pay", "refund"), ("send", None))
    app.says("later", "send")
    cli(f"commit {name} {app.option}", code=5)
    return name


def test_list_says_until_when_a_transaction_waits(cli, waiting):
    until = cli(f"show {waiting} --json").json["result"]["waiting"]["until"]
    (item,) = cli("list --json").json["items"]
    assert item["due_at"] == until.replace("Z", "+00:00")
    assert item["attention"] is None
    head, row = cli("list").out.splitlines()
    assert head.endswith("WAITS FOR")
    assert row.endswith(until[:19].replace("T", " ") + "Z")
    assert cli("list --exit-status").code == 0


def test_a_list_without_waiting_transactions_has_no_such_column(cli, made):
    made()
    assert "WAITS FOR" not in cli("list").out
    assert cli("list --json").json["items"][0]["due_at"] is None


def test_show_says_what_is_waited_for_and_how_to_go_on(cli, waiting):
    out = cli(f"show {waiting}").out
    assert re.search(r"s2 +an_agent +send +next try (?:\S+ )?\S+Z, attempt 2", out)
    assert re.search(r"waits until \S+ \S+Z, (1 h 0 min|59 min \d+ s) from now", out)
    for command in (f"wait {waiting}", "recover", f"retry {waiting} s2", f"rollback {waiting}"):
        assert f"      aumai-transactions {command} --app module:attribute\n" in out
    assert "needs a person" not in out
    cli(f"show {waiting} --exit-status", code=5)


def test_status_of_a_waiting_transaction_has_the_seeds_keys_alone(cli, waiting):
    found = cli(f"status {waiting}").json
    assert len(found) == 5
    assert found["state"] == "active"


def test_events_show_the_time_of_the_next_attempt_as_people_read_it(cli, waiting):
    until = cli(f"show {waiting} --json").json["result"]["waiting"]["until"]
    line = next(ln for ln in cli(f"show {waiting} --events").out.splitlines() if "scheduled" in ln)
    at = until.replace("Z", "+00:00")
    assert f'"due_at": "{at}"' in line
    (told,) = (
        event["fields"]
        for event in cli(f"show {waiting} --events --json").json
        if event["kind"] == "retry_scheduled"
    )
    assert told["due_at"] == at


AGENT = """
from aumai_transactions import TransactionManager
manager = TransactionManager(store="agent.db")
@manager.action("book", compensating_action="cancel", idempotent=True)
def book(action, data):
    if data.get("full"):
        raise ValueError("no rooms")
    return {"id": data["id"]}
@manager.action("cancel", idempotent=True)
def cancel(action, data):
    pass
"""


@pytest.fixture
def agent(home, tmp_path, monkeypatch):
    """A program with a transaction open, in this very process."""
    module = f"agent_{abs(hash(str(tmp_path)))}"
    (tmp_path / "here" / f"{module}.py").write_text(AGENT)
    monkeypatch.syspath_prepend(tmp_path / "here")
    manager = importlib.import_module(module).manager
    with manager, manager.transaction(name="trip") as tx:
        tx.execute("flight_agent", "book", {"id": "F"}, step_id="flight", undo_within_seconds=900)
        with tx.savepoint("try") as savepoint:
            tx.execute("hotel_agent", "book", {"id": "H"}, step_id="hotel")
            with pytest.raises(ValueError, match="no rooms"):
                tx.execute("hotel_agent", "book", {"full": True}, step_id="full")
            savepoint.rollback()
        with tx.transaction("inner") as child:
            child.execute("car_agent", "book", {"id": "C"}, step_id="car", on_commit=False)
        yield tx


def test_a_program_that_lives_is_shown_with_what_it_added_grouped_and_took_back(cli, agent):
    name = agent.transaction_id
    said = cli(f"show {name} --store agent.db").out
    assert "interactive: a program chooses its steps as it goes" in said
    assert "not finished: its program is alive, and goes on with it" in said
    course = [line[26:] for line in said.splitlines() if re.match(r"    \d{4}-\d\d", line)]
    assert course == [
        "flight: flight_agent asks for book",
        "the savepoint try begins",
        "hotel: hotel_agent asks for book, inside the savepoint try",
        "full: hotel_agent asks for book, inside the savepoint try",
        "the savepoint try is rolled back: hotel (requested)",
        "the nested transaction inner begins",
        "car: car_agent asks for book, inside the nested transaction inner",
        "the nested transaction inner has committed into what it stands in, and is final with that",
    ]
    assert re.search(r"hotel +hotel_agent +book +done .* undone \d+ ms +try\n", said)
    assert re.search(r"car +car_agent +book +done .* inner\n", said)
    assert "flight  can be undone for 900 s" in said


def test_json_has_the_groups_and_says_that_its_program_lives(cli, agent):
    found = cli(f"show {agent.transaction_id} --store agent.db --json").json
    assert found["is_alive"] is True
    told = [(group["kind"], group["name"], group["state"]) for group in found["groups"]]
    assert told == [("savepoint", "try", "open"), ("child", "inner", "released")]
    (item,) = cli("list --store agent.db --json").json["items"]
    assert item["is_alive"] is True
    assert "a living process" in cli("list --store agent.db").out
    assert "nothing to recover" in cli("recover --store agent.db").err


@pytest.mark.parametrize(
    "picture, begins",
    [("svg", "<svg "), ("mermaid", "sequenceDiagram\n"), ("html", "<!doctype html>")],
)
def test_show_draws_a_picture(cli, picture, begins):
    name = cli("create").json["transaction_id"]
    cli(f"add-step {name} --agent flight_agent --action reserve")
    ran = cli(f"show {name} --format {picture}")
    assert ran.out.startswith(begins)
    assert "flight_agent" in ran.out
    assert "It has not begun." in ran.out
    assert not ran.err


# ---------------------------------------------------------------------------------- searches


@pytest.fixture
def trips(cli):
    """Three transactions, of which each has something that the others have not."""
    names = [
        cli("create --metadata team=red --metadata year=2026").json,
        cli("create --metadata team=red").json,
        cli("create").json,
    ]
    names = [one["transaction_id"] for one in names]
    for name, agent, action in zip(names, "abc", ("book", "book", "pay%"), strict=True):
        cli(f"add-step {name} --agent agent-{agent} --action {action}")
    return names


@pytest.mark.parametrize(
    "options,wanted",
    [
        ("--agent agent-a", [0]),
        ("--agent agent-a --agent agent-c", [0, 2]),
        ("--agent AGENT-A", []),
        ("--action book", [0, 1]),
        ("--action book --agent agent-b", [1]),
        ("--metadata team=red", [0, 1]),
        ("--metadata team=red --metadata year=2026", [0]),
        ("--metadata team=re", []),
        ("--search AGENT-A", [0]),
        ("--search pay%", [2]),
        ("--search %", [2]),
        ("--older-than 1h", []),
        ("--newer-than 1h", [0, 1, 2]),
        ("--newer-than 1h --older-than 1h", []),
    ],
)
def test_a_list_can_be_searched(cli, trips, options, wanted):
    ran = cli(f"list --json --oldest {options}")
    assert [item["transaction_id"] for item in ran.json["items"]] == [trips[n] for n in wanted]
    assert ran.json["total"] == len(wanted)


def test_a_line_tells_what_it_is_searched_by(cli, trips):
    [item] = cli("list --json --search agent-a").json["items"]
    assert item["actions"] == ["book"]
    assert item["metadata"] == {"team": "red", "year": "2026"}


def test_a_search_that_finds_nothing_says_so(cli, trips):
    assert "no transactions like that" in cli("list --search nothing").err


@pytest.mark.parametrize(
    "options,problem",
    [("--older-than soon", "is no age"), ("--metadata team", "write it as NAME=TEXT")],
)
def test_a_search_that_cannot_be_made_is_refused(cli, trips, options, problem):
    assert problem in cli(f"list {options}", code=2).err
