"""The store in a PostgreSQL database, for processes on many machines.

Owns: the name that other layers import.
"""

from aumai_transactions.stores.postgres.filling import fill_new
from aumai_transactions.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore", "fill_new"]
