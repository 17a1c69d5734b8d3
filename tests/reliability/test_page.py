"""The page of reliability shows figures that tests have counted."""

from fractions import Fraction

import pytest
from tests.reliability.figures import PARTS, noted, read, write
from tests.reliability.page import COMMAND, PAGE, on_page, with_block
from tests.reliability.share import share_of, some, times

# What none may ever have, whatever else is counted.
NONE_OF = ("lost", "doubled", "half", "violations", "stuck", "torn", "survived", "believed")


def test_the_page_shows_each_part_and_the_figures_that_a_run_has_counted():
    page = PAGE.read_text("utf-8")
    assert with_block(page, {}) == page, f"renew the page with: {COMMAND}"
    assert all(title in page for title in PARTS.values())
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
    write(noted(name, {"transactions": 1, "lost": 0}, 1.0)._replace(run="an earlier one"))
    write(noted(name, {"transactions": 123_456, "acknowledged_and_lost": 0}, 600.0))
    renewed = with_block(page, read(file))
    assert "123,456 transactions, 0 acknowledged and lost | 10 min" in renewed
    before, after = on_page(page), on_page(renewed)
    assert {part: before.get(part) for part in others} == {part: after.get(part) for part in others}


def test_a_part_that_nobody_knows_is_refused():
    with pytest.raises(KeyError):
        noted("something else", {"transactions": 1}, 1.0)


def test_what_several_tests_of_one_run_note_is_added_up(tmp_path, monkeypatch):
    file = tmp_path / "figures.jsonl"
    monkeypatch.setenv("AUMAI_FIGURES", str(file))
    write(noted("kills", {"kills": 100, "lost": 0}, 60.0)._replace(run="an earlier one"))
    write(noted("kills", {"kills": 2, "lost": 0}, 10.0))
    write(noted("kills", {"kills": 3, "lost": 0, "half": 0}, 20.0))
    found = read(file)["kills"]
    assert (found.counts, found.seconds) == ({"kills": 5, "lost": 0, "half": 0}, 30.0)


def test_the_page_says_of_which_share_a_figure_is():
    one = noted("kills", {"kills": 5}, 1.0)._replace(share="1/8")
    assert "| 5 kills | 1 s | 1/8 |" in with_block(PAGE.read_text("utf-8"), {"kills": one})


def test_a_share_is_even_and_the_same_each_time_and_never_nothing():
    assert list(some(range(10), Fraction(1))) == list(range(10))
    assert list(some(range(10), Fraction(1, 4))) == [0, 4, 8]
    assert list(some(range(10), Fraction(2, 5))) == [0, 2, 5, 7]
    assert list(some("ab", Fraction(1, 100))) == ["a"]
    assert list(some([], Fraction(1, 4))) == []
    assert times(1_000, share=Fraction(1, 8)) == 125
    assert times(10, least=5, share=Fraction(1, 8)) == 5


@pytest.mark.parametrize("text", ["0", "-1/2", "2", "a half"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ValueError, match=r"AUMAI_SHARE|Fraction"):
        share_of(text)
