"""The page of reliability shows figures that tests have counted."""

import pytest
from tests.reliability.figures import PARTS, noted, read, write
from tests.reliability.page import COMMAND, PAGE, on_page, with_block

# What none may ever have, whatever else is counted.
NONE_OF = ("lost", "doubled", "half", "violations", "stuck", "torn", "survived")


def test_the_page_shows_each_part_and_the_figures_that_a_run_has_counted():
    page = PAGE.read_text("utf-8")
    assert with_block(page, {}) == page, f"renew the page with: {COMMAND}"
    assert all(part.title in page for part in PARTS.values())
    assert on_page(page)


def test_no_figure_on_the_page_tells_of_a_loss():
    for one in on_page(PAGE.read_text("utf-8")).values():
        bad = {
            name: count
            for name, count in one.counts.items()
            if count and set(NONE_OF) & set(name.split())
        }
        assert bad == {}, one.part


def test_new_figures_take_the_place_of_old_ones_of_the_same_part_only(tmp_path, monkeypatch):
    file = tmp_path / "more" / "figures.jsonl"
    monkeypatch.setenv("AUMAI_FIGURES", str(file))
    page = PAGE.read_text("utf-8")
    name, *others = PARTS
    write(noted(name, {"transactions": 1, "lost": 0}, 1.0))
    write(noted(name, {"transactions": 123_456, "acknowledged_and_lost": 0}, 600.0))
    renewed = with_block(page, read(file))
    assert "123,456 transactions, 0 acknowledged and lost | 10 min" in renewed
    before, after = on_page(page), on_page(renewed)
    assert {part: before.get(part) for part in others} == {part: after.get(part) for part in others}


def test_a_part_that_nobody_knows_is_refused():
    with pytest.raises(KeyError):
        noted("something else", {"transactions": 1}, 1.0)
