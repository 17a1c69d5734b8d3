"""Tests of the page that needs nothing else."""

from __future__ import annotations

from html.parser import HTMLParser

from aumai_transactions.pictures import page


class Tags(HTMLParser):
    """Collect what stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _value in attrs]


def test_it_shows_the_picture_the_steps_and_the_journal(trip):
    timeline, result, events = trip()
    drawn = page.drawn(timeline, result, [(event, f"entry {event.sequence}") for event in events])
    assert "the hotel is &lt;full&gt; &amp; closed" in drawn
    found = Tags(drawn)
    assert found.tags.count("svg") == 1
    assert found.tags.count("tr") == 2 + len(timeline.steps) + len(events)


def test_nothing_in_it_runs_and_nothing_is_asked_for(trip):
    timeline, result, events = trip()
    bad = '<img src=x onerror=alert(1)><script>alert(1)</script>"\u202e'
    timeline.name = bad
    drawn = page.drawn(timeline, result, [(event, bad) for event in events])
    found = Tags(drawn)
    assert not {"script", "img", "link", "iframe", "object"} & set(found.tags)
    assert not [name for name in found.attributes if name.startswith("on") or name == "src"]
    assert "default-src 'none'" in drawn
    assert "\u202e" not in drawn
