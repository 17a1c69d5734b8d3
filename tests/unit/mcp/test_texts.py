"""Tests of cleaning what others have written."""

from __future__ import annotations

from aumai_transactions.mcp.texts import cleaned, cleaned_json, cleaned_tables


def test_what_hides_in_a_text_is_taken_out_and_the_rest_stays() -> None:
    text = (
        "plain \u202eright-to-left\u202c \u200bzero\u200b \x1b[31mred\x07 späti 🫖\n\ttab\U000e0041"
    )
    assert cleaned(text) == "plain right-to-left zero [31mred späti 🫖\n\ttab"


def test_a_long_text_is_cut() -> None:
    assert cleaned("a" * 5_000, 10) == "a" * 10 + "…"
    assert cleaned("\u200b" * 50 + "a", 10) == ""


def test_json_becomes_one_clean_line() -> None:
    assert cleaned_json({"b": "\u202ex", "a": [1]}) == '{"a": [1], "b": "x"}'
    assert cleaned_tables({"a\u200b": ["\u202ex", 1, None]}) == {"a": ["x", 1, None]}
