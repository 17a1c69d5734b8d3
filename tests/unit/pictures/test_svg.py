"""Tests of the SVG."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from aumai_transactions.pictures import svg


def read(drawn: str) -> ET.Element:
    return ET.fromstring(drawn)  # noqa: S314 (it is our own)


NAMES = {"s": "http://www.w3.org/2000/svg"}


def test_it_is_well_formed_and_says_what_became_of_it(trip):
    timeline, result, _events = trip()
    root = read(svg.drawn(timeline, result))
    label = root.get("aria-label") or ""
    assert "Rolled back because its program raised ValueError: the hotel is <full>" in label
    assert "1 step needs a person" in label
    texts = [one.text for one in root.iterfind(".//s:text", NAMES)]
    assert "trip" in texts
    assert "rolled back" in texts
    assert "done, undone" in texts
    assert "done, undo failed" in texts


def test_each_undo_is_joined_to_the_step_that_it_undoes(trip):
    timeline, result, _events = trip()
    root = read(svg.drawn(timeline, result))
    joins = root.findall(".//s:path[@class='join']", NAMES)
    undos = [
        one
        for one in root.iterfind(".//s:rect", NAMES)
        if "compensation" in (one.get("class") or "").split()
    ]
    assert len(joins) == len(undos) == 3
    titles = [one.findtext("s:title", namespaces=NAMES) for one in undos]
    assert "undo: cancel: undone" in titles


def test_what_an_agent_has_written_is_text_and_nothing_else(trip):
    bad = '</text><script>alert(1)</script>\u202e"&\x1b\x00\ud800]]>'
    timeline, result, _events = trip(agent=bad.replace("\x00", "").replace("\ud800", ""), name="n")
    timeline.name = bad
    drawn = svg.drawn(timeline, result)
    root = read(drawn)
    assert root.findall(".//s:script", NAMES) == []
    assert "\u202e" not in drawn
    assert "\x1b" not in drawn
    assert any("alert(1)" in (one.text or "") for one in root.iterfind(".//s:text", NAMES))


def test_it_asks_nobody_for_anything(trip):
    timeline, result, _events = trip()
    drawn = svg.drawn(timeline, result)
    rest = drawn.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for word in ("http", "url(", "@import", "<script", "<image", "<foreignObject", "href", " on"):
        assert word not in rest.replace("</", "")


def test_one_that_committed_and_one_that_has_done_nothing_can_be_drawn_too(trip):
    timeline, result, _events = trip(fails=False)
    assert "Committed: 3 steps took effect." in svg.drawn(timeline, result)
    empty = type(timeline)("tx-1")
    read(svg.drawn(empty, result))
