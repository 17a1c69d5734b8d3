"""Every row of the table of bad inputs is tested in this folder, or left out for a reason."""

import re
from pathlib import Path

ROWS = range(1, 73)


def test_every_row_is_tested_here_or_left_out_for_a_reason(left_out):
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        if path.name != Path(__file__).name:
            found |= {int(number) for number in re.findall(r"row[ _](\d\d)", path.read_text())}
    missing = set(ROWS) - found - set(left_out)
    assert missing == set()
    assert all(len(reason.split()) > 4 for reason in left_out.values())
