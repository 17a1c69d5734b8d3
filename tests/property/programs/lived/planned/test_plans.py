"""Random plans, carried out side by side, and undone: the invariants hold.

`AUMAI_EXAMPLES` says how many are carried out; `make nightly` carries out 10,000.
"""

import os
from itertools import count

import pytest
from hypothesis import given, settings

EXAMPLES = int(os.environ.get("AUMAI_EXAMPLES", "0"))
TORTURE = EXAMPLES or 10_000


def test_a_graph_runs_side_by_side_and_goes_back_in_order_in_memory(carry_out, plans):
    @settings(max_examples=EXAMPLES or 80)
    @given(plans)
    def live(plan):
        carry_out(plan)

    live()


def test_a_graph_runs_side_by_side_and_goes_back_in_order_on_sqlite(carry_out, plans, tmp_path):
    numbers = count(1)

    @settings(max_examples=EXAMPLES // 10 or 8)
    @given(plans)
    def live(plan):
        carry_out(plan, tmp_path / f"{next(numbers)}.db")

    live()


@pytest.mark.torture
def test_ten_thousand_graphs_run_side_by_side_and_go_back_in_order(carry_out, plans):
    @settings(max_examples=TORTURE, derandomize=False, print_blob=True)
    @given(plans)
    def live(plan):
        carry_out(plan)

    live()
