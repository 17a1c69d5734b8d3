"""Whether what happened is what was promised: the checker of finished histories.

Owns: the public names of the checker. It compares the journals of a store with what the
participants' own databases have recorded, transaction by transaction and all together, and needs
no test runner. As a command: `python -m aumai_transactions.testing.history STORE_URL`.
Rules:
  1. Nothing is taken on trust: not the drivers' word that something was locked, nor a handler's
     that it did something. Journals and participants have to agree.
  2. What is found names the invariant, the transactions, and the step or the resource.
  3. A damaged journal is one more thing that was found, and hides no other.
"""

from aumai_transactions.testing.history.checker import HistoryChecker, check, problems_of
from aumai_transactions.testing.history.records import Access, Kind, Problem
from aumai_transactions.testing.history.report import INVARIANTS, Report
from aumai_transactions.testing.history.telling import JournalRules, JournalTold, StepTold, told_by

__all__ = [
    "INVARIANTS",
    "Access",
    "HistoryChecker",
    "JournalRules",
    "JournalTold",
    "Kind",
    "Problem",
    "Report",
    "StepTold",
    "check",
    "problems_of",
    "told_by",
]
