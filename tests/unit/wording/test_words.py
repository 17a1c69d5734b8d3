from datetime import UTC, datetime, timedelta

from aumai_transactions.wording.words import clock_time, until_text

NOON = datetime(2026, 2, 27, 12, tzinfo=UTC)
NOW = int(NOON.timestamp() * 1_000_000)


def test_a_time_to_come_says_how_far_away_it_is_and_a_past_one_that_nobody_came():
    later = NOON + timedelta(minutes=3, seconds=20)
    assert until_text(later, NOW) == "waits until 2026-02-27 12:03:20Z, 3 min 20 s from now"
    said = "was due 2026-02-27 12:00:00Z, and nobody has gone on with it"
    assert until_text(NOON, NOW) == said


def test_a_time_has_its_day_where_it_is_another_one():
    assert clock_time(NOON, NOON - timedelta(hours=11)) == "12:00:00Z"
    assert clock_time(NOON, NOON - timedelta(hours=13)) == "2026-02-27 12:00:00Z"
    assert clock_time(NOON, None) == "2026-02-27 12:00:00Z"
