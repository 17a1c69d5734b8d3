"""Every kind of action under every fault: what the participant's own database holds afterwards.

What must hold is in `law.py`; the page `docs/guarantees.md` shows it (`page.py`).
"""

import pytest
from tests.faults.cells import CELLS
from tests.faults.law import Law
from tests.faults.scene import carry_out


@pytest.mark.parametrize("name", CELLS)
def test_the_world_is_as_the_law_says(name, make_manager, manager_kind, tmp_path):
    cell = CELLS[name]
    is_async = manager_kind.startswith("async")

    seen = carry_out(cell, tmp_path, make_manager, is_async=is_async)

    assert seen == Law(cell, leaves_behind=not is_async).seen()
