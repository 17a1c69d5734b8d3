"""The participant suite from a shell: its table, its JSON, its exit codes."""

import json

import pytest
from tests.unit.testing.participant.shop import Shop, running

from aumai_transactions.testing.participant.__main__ import main


def arguments(shop, *more):
    return [
        f"{shop.url}/order",
        *("--undo", f"{shop.url}/undo", "--data", '{"what": "a flight"}'),
        *("--rejected", '{"what": "nothing"}', "--state", f"{shop.url}/state"),
        *("--count", "standing", "--rivals", "3", *more),
    ]


def test_a_table_and_zero_where_all_is_kept(capsys):
    with running(Shop()) as shop:
        code = main(arguments(shop))
    out = capsys.readouterr().out
    assert code == 0
    assert out.startswith(f"participant {shop.url}/order\n\nPROMISE  WHAT")
    assert "P3       a call that comes after its undo: refused" in out
    assert out.rstrip().endswith("23 kept, 2 unchecked")


def test_json_and_one_where_something_is_broken(capsys):
    with running(Shop("tombstone")) as shop:
        code = main(arguments(shop, "--json"))
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert told["is_sound"] is False
    broken = [check["what"] for check in told["checks"] if check["verdict"] == "broken"]
    assert "a call that comes after its undo: refused" in broken


def test_three_where_it_cannot_be_checked(capsys):
    code = main(["http://127.0.0.1:1/order", "--json"])
    told = capsys.readouterr()
    assert code == 3
    assert "cannot be reached" in json.loads(told.out)["error"]
    assert told.err.startswith("cannot check: ")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--data", "{"],
        ["--header", "nonsense"],
        ["--header", "Authorization: $NO_SUCH_VARIABLE"],
        ["--rivals", "1"],
        ["--timeout", "-1"],
    ],
)
def test_two_where_an_argument_cannot_be(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["http://127.0.0.1:1/order", *wrong])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_header_comes_from_the_environment_and_is_sent(monkeypatch, capsys):
    monkeypatch.setenv("SHOP_TOKEN", "secret")
    seen = set()
    with running(Shop()) as shop:
        plain = shop.handle

        def handle(path, headers, body):
            seen.add(headers["Authorization"])
            return plain(path, headers, body)

        shop.handle = handle
        assert main(arguments(shop, "--header", "Authorization: $SHOP_TOKEN")) == 0
    assert seen == {"secret"}
    assert "secret" not in capsys.readouterr().out
