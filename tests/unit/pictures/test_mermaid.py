"""Tests of the Mermaid diagram."""

from __future__ import annotations

import re

from aumai_transactions.pictures import mermaid


def test_it_tells_calls_and_undos_in_order(trip):
    timeline, result, _events = trip()
    lines = mermaid.drawn(timeline, result).splitlines()
    assert lines[:3] == [
        "sequenceDiagram", "    participant tx as trip", "    participant a0 as flight_agent"
    ]  # fmt: skip
    assert "    tx->>a1: s2 flaky, attempt 3" in lines
    assert lines.index("    tx->>a3: s4 book") < lines.index("    tx->>a1: undo s2 cancel")
    assert lines.index("    tx->>a1: undo s2 cancel") < lines.index("    tx->>a0: undo s1 cancel")
    assert "    a3--xtx: failed" in lines
    assert lines[-1].startswith("    Note over tx: Rolled back because its program raised")


def test_nothing_that_an_agent_has_written_means_anything(trip):
    bad = 'x; end\n    participant evil %%{init}%% #35; <b>"`|[]'
    timeline, result, _events = trip(agent="a", name="n")
    timeline.name = bad
    drawn = mermaid.drawn(timeline, result)
    participants = [line for line in drawn.splitlines() if line.strip().startswith("participant")]
    assert len(participants) == 5
    assert not re.search(r"[<>%`|\[\]{}\"]", drawn.replace("->>", "").replace("--x", ""))
