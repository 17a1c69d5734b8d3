"""The barrier: what makes a participant's calls safe to repeat, to lose and to overtake.

Owns: the public names of the barrier. A participant keeps small tables in its own database,
`aumai_barrier` and `aumai_fences`, and runs each call inside `barrier()`; see docs/barrier.md.
"""

from aumai_transactions.participants.barrier.block import Admission, barrier, barrier_probe
from aumai_transactions.participants.barrier.calls import (
    BarrierCall,
    CallRefused,
    CallUndone,
    InvalidCall,
    KeyReused,
    StaleDriver,
)
from aumai_transactions.participants.barrier.fences import StaleHolder, fence
from aumai_transactions.participants.barrier.middleware import (
    BarrierMiddleware,
    Guarded,
    current_barrier,
)
from aumai_transactions.participants.barrier.table import (
    create_barrier_table,
    purge_barrier_table,
)

__all__ = [
    "Admission",
    "BarrierCall",
    "BarrierMiddleware",
    "CallRefused",
    "CallUndone",
    "Guarded",
    "InvalidCall",
    "KeyReused",
    "StaleDriver",
    "StaleHolder",
    "barrier",
    "barrier_probe",
    "create_barrier_table",
    "current_barrier",
    "fence",
    "purge_barrier_table",
]
