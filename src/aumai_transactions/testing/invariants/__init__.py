"""The invariants of DESIGN.md as checks that share nothing with the core.

Owns: nothing but the names. `JournalRules` is about one journal, `LockRules` about all together.
"""

from aumai_transactions.testing.invariants.journals import JournalRules
from aumai_transactions.testing.invariants.locks import LockRules
from aumai_transactions.testing.invariants.told import StepTold, needs_of

__all__ = ["JournalRules", "LockRules", "StepTold", "needs_of"]
