"""A Connection or a Session of SQLAlchemy, over SQLite or PostgreSQL.

Owns: the only import of SQLAlchemy.
Rules:
  1. Over SQLite, Python's driver begins a transaction of its own accord, late or never; so we
     begin it, immediately, before any savepoint.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import text

from aumai_transactions.errors import DefinitionError, OutcomeUnknown
from aumai_transactions.participants.barrier.databases import _BLOCK_ENDED, Kind, Rows, Values

_KINDS = {"sqlite": "sqlite", "postgresql": "postgresql"}


class SqlalchemyDatabase:
    """A Connection or a Session; a Session is flushed before its effect counts."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._outer: Any = None
        self._effect: Any = None
        self.is_joined = False
        dialect = target.dialect if hasattr(target, "dialect") else target.get_bind().dialect
        if dialect.name not in _KINDS:
            message = f"the barrier speaks SQLite and PostgreSQL, not {dialect.name}."
            raise DefinitionError(message)
        self.kind = cast("Kind", dialect.name)

    def begin(self) -> None:
        """Begin, or set a savepoint in the caller's transaction."""
        self.is_joined = self._target.in_transaction()
        if not self.is_joined:
            self._outer = self._target.begin()
        try:
            if self.kind == "sqlite" and not self._driver().in_transaction:
                self._target.execute(text("BEGIN IMMEDIATE"))
            if self.is_joined:
                self._outer = self._target.begin_nested()
            elif self.kind == "postgresql":
                # Why: with AUTOCOMMIT this fails, and nothing has been written yet.
                self._target.execute(text("SAVEPOINT aumai_barrier"))
        except BaseException:
            if not self.is_joined:
                self._outer.rollback()
            raise

    def commit(self) -> None:
        """Commit, or release our savepoint."""
        self._outer.commit()

    def roll_back(self) -> None:
        """Undo everything since `begin`."""
        if self._effect is not None and self._effect.is_active:
            self._effect.rollback()
        self._effect = None
        self._outer.rollback()

    def begin_effect(self) -> None:
        """Set a savepoint."""
        self._effect = self._target.begin_nested()

    def keep_effect(self) -> None:
        """Release it, which flushes a Session."""
        self._check()
        effect, self._effect = self._effect, None
        effect.commit()

    def drop_effect(self) -> None:
        """Roll back to it."""
        self._check()
        effect, self._effect = self._effect, None
        effect.rollback()

    def execute(self, statement: str, values: Values | None = None) -> Rows:
        """Run one statement of ours."""
        result = self._target.execute(text(statement), dict(values or {}))
        return [tuple(row) for row in result] if result.returns_rows else []

    def change(self, statement: str, values: Values | None = None) -> int:
        """Run one statement and count."""
        return int(self._target.execute(text(statement), dict(values or {})).rowcount)

    def _check(self) -> None:
        if not (self._outer.is_active and self._effect.is_active):
            raise OutcomeUnknown(_BLOCK_ENDED)

    def _driver(self) -> Any:
        target = self._target
        connection = target if hasattr(target, "dialect") else target.connection()
        return connection.connection.driver_connection
