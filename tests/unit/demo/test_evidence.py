import pytest

from aumai_transactions.demo.evidence import SERVICES, Holding, partial_trips


def found(**held):
    """Evidence: for each service the transactions that hold something there."""
    return {
        service: [
            Holding(service, number, transaction_id, "s", "something")
            for number, transaction_id in enumerate(held.get(service, ""))
        ]
        for service in SERVICES
    }


WHOLE = found(flights="a", hotels="a", payments="a")


@pytest.mark.parametrize(
    "states,evidence",
    [
        ({}, found()),
        ({"a": "committed"}, WHOLE),
        ({"a": "rolled_back", "b": "failed"}, found()),
        ({"a": "committed", "b": "rolled_back"}, WHOLE),
        (
            {"a": "committed", "b": "committed"},
            found(flights="ab", hotels="ba", payments="ab"),
        ),
    ],
)
def test_whole_trips_are_left_alone(states, evidence):
    assert partial_trips(states, evidence) == []


@pytest.mark.parametrize(
    "states,evidence,wrong",
    [
        # A half trip, whatever its transaction says.
        (
            {"a": "committed"},
            found(flights="a", hotels="a"),
            ["a is committed, but payments holds 0 for it"],
        ),
        (
            {"a": "rolled_back"},
            found(flights="a"),
            ["a is rolled_back, but flights holds 1 for it"],
        ),
        ({"a": "failed"}, found(hotels="a"), ["a is failed, but hotels holds 1 for it"]),
        # Charged twice.
        (
            {"a": "committed"},
            found(flights="a", hotels="a", payments="aa"),
            ["a is committed, but payments holds 2 for it"],
        ),
        # A whole trip that its transaction calls undone, and the other way round.
        (
            {"a": "rolled_back"},
            WHOLE,
            [f"a is rolled_back, but {service} holds 1 for it" for service in SERVICES],
        ),
        (
            {"a": "committed"},
            found(),
            [f"a is committed, but {service} holds 0 for it" for service in SERVICES],
        ),
        # Somebody else's effects do not make up for what is missing.
        (
            {"a": "committed", "b": "rolled_back"},
            found(flights="a", hotels="b", payments="a"),
            [
                "a is committed, but hotels holds 0 for it",
                "b is rolled_back, but hotels holds 1 for it",
            ],
        ),
        # Not final is not whole, even where everything or nothing stands.
        ({"a": "active"}, WHOLE, ["a is active, which is not final"]),
        ({"a": "compensating"}, found(), ["a is compensating, which is not final"]),
        ({"a": "a state of later"}, found(), ["a is a state of later, which is not final"]),
        # Effects that nobody answers for.
        (
            {"a": "committed"},
            found(flights="ax", hotels="a", payments="a"),
            ["x holds flights, and no trip is known for it"],
        ),
    ],
)
def test_what_is_wrong_with_a_trip_is_said(states, evidence, wrong):
    assert partial_trips(states, evidence) == wrong


def test_a_service_whose_books_were_not_read_counts_as_empty():
    assert partial_trips({"a": "committed"}, {}) != []
