"""The store in one SQLite file, for every process of one machine.

Owns: the name that other layers import.
"""

from aumai_transactions.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
