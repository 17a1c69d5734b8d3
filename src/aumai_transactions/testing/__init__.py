"""The public test kit.

Owns: nothing but the names. The most used ones are here and are imported when they are first asked
for; everything else is in a module of its own, such as `aumai_transactions.testing.store_contract`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aumai_transactions.testing.atomic import AtomicityReport as AtomicityReport
    from aumai_transactions.testing.atomic import NotAtomic as NotAtomic
    from aumai_transactions.testing.atomic import NothingToProve as NothingToProve
    from aumai_transactions.testing.atomic import assert_atomic as assert_atomic
    from aumai_transactions.testing.clock import ManualClock as ManualClock
    from aumai_transactions.testing.participant import check_participant as check_participant
    from aumai_transactions.testing.replay import check_replay as check_replay
    from aumai_transactions.testing.store_contract import check_store as check_store

_HOMES = {
    "AtomicityReport": "atomic",
    "ManualClock": "clock",
    "NotAtomic": "atomic",
    "NothingToProve": "atomic",
    "assert_atomic": "atomic",
    "check_participant": "participant",
    "check_replay": "replay",
    "check_store": "store_contract",
}


def __getattr__(name: str) -> object:
    # Why late: a process that is there to be killed needs one module of the kit, and a test suite
    # seldom all of them.
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
