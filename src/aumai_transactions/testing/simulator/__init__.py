"""A deterministic simulation of the product: one seed is one history.

Owns: nothing but the names. See docs/simulation.md.
"""

from aumai_transactions.testing.simulator.running import (
    Case,
    Report,
    SimulationFailed,
    run,
    simulate,
)
from aumai_transactions.testing.simulator.shrinking import shrink

__all__ = ["Case", "Report", "SimulationFailed", "run", "shrink", "simulate"]
