"""The pictures in the documentation are drawn from journals of real runs, by the product.

`AUMAI_DRAW=1 pytest tests/integration/test_pictures.py` draws them anew.
"""

import json
import os
from pathlib import Path

import pytest

from aumai_transactions.models import Event, TransactionResult
from aumai_transactions.pictures import svg
from aumai_transactions.timelines.timeline import Timeline

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"


@pytest.mark.parametrize("recorded", sorted(PICTURES.glob("*.json")), ids=lambda path: path.stem)
def test_a_picture_is_what_the_product_draws_of_its_journal(recorded):
    told = json.loads(recorded.read_text("utf-8"))
    told["result"].pop("is_final", None)
    told["result"].pop("clean", None)
    result = TransactionResult.model_validate(told["result"])
    events = [Event.model_validate(event) for event in told["events"]]
    timeline = Timeline.of(result.transaction_id, events)
    timeline.take(result)
    drawn = svg.drawn(timeline, result)
    picture = recorded.with_suffix(".svg")
    if os.environ.get("AUMAI_DRAW"):
        picture.write_text(drawn, "utf-8")
    assert picture.read_text("utf-8") == drawn


def test_each_picture_has_the_journal_that_it_was_drawn_from():
    drawn = {path.stem for path in PICTURES.glob("*.svg")}
    assert drawn == {path.stem for path in PICTURES.glob("*.json")}
    assert drawn
