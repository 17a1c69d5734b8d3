"""Would today's code still carry on what was recorded with yesterday's?

Owns: nothing but the names. `python -m aumai_transactions.testing.replay` is the same from a shell.
"""

from aumai_transactions.testing.replay.check import Program, check_replay
from aumai_transactions.testing.replay.recorded import CannotRead
from aumai_transactions.testing.replay.report import Difference, Replayed, ReplayReport

__all__ = ["CannotRead", "Difference", "Program", "ReplayReport", "Replayed", "check_replay"]
