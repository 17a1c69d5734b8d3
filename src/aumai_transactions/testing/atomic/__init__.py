"""Prove that a transaction leaves nothing behind, or show where it does.

Owns: nothing but the names; `check.py` says what is done.
"""

from aumai_transactions.testing.atomic.check import AtomicityReport, assert_atomic
from aumai_transactions.testing.atomic.faults import FaultKind
from aumai_transactions.testing.atomic.story import NotAtomic, NothingToProve

__all__ = ["AtomicityReport", "FaultKind", "NotAtomic", "NothingToProve", "assert_atomic"]
