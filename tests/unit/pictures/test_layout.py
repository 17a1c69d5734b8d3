"""Tests of where everything stands in a picture."""

from __future__ import annotations

import pytest

from aumai_transactions.pictures import layout
from aumai_transactions.pictures.layout import duration_text, laid_out


def test_a_step_stands_in_its_agents_lane_and_its_undo_behind_it_on_the_same_line(trip):
    timeline, _result, _events = trip()
    lanes = laid_out(timeline).lanes
    assert [lane.agent_id for lane in lanes] == [
        "flight_agent", "car_agent", "mail_agent", "hotel_agent"
    ]  # fmt: skip
    (line,) = lanes[0].lines
    action, undo = line.bars
    assert (action.kind, action.outcome) == ("action", "done")
    assert (undo.kind, undo.outcome) == ("compensation", "undone")
    assert action.end <= undo.start
    assert line.joins == ((action.end, undo.start),)


def test_each_attempt_is_a_bar_of_its_own(trip):
    timeline, _result, _events = trip()
    (line,) = laid_out(timeline).lanes[1].lines
    assert [(bar.number, bar.outcome) for bar in line.bars if bar.kind == "action"] == [
        (1, "failed"), (2, "failed"), (3, "done")
    ]  # fmt: skip
    starts = [bar.start for bar in line.bars]
    assert starts == sorted(starts)


def test_a_long_wait_does_not_push_the_rest_into_a_corner(trip):
    timeline, _result, _events = trip()
    bars = [bar for lane in laid_out(timeline).lanes for line in lane.lines for bar in line.bars]
    assert all(0 <= bar.start <= bar.end <= 1 for bar in bars)
    # 10 ms beside an hour.
    assert min(bar.end - bar.start for bar in bars) > 0.01


def test_more_steps_than_anybody_looks_at_are_left_out_and_counted(trip, monkeypatch):
    timeline, _result, _events = trip()
    monkeypatch.setattr(layout, "STEPS_MAX", 1)
    found = laid_out(timeline)
    assert (len(found.lanes), found.left_out) == (1, 3)


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0"), (0.0001, "<1 ms"), (0.0123, "12.3 ms"), (2.5, "2.5 s"), (90, "1.5 min"),
     (7_200, "2 h"), (172_800, "2 d")],
)  # fmt: skip
def test_a_duration_is_told_in_the_unit_that_suits_it(seconds, text):
    assert duration_text(seconds) == text
