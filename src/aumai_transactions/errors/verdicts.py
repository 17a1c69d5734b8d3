"""What a handler raises to say what became of its call.

Owns: those exceptions.
"""

from __future__ import annotations

from aumai_transactions.errors.root import Portable


class StepRejected(Exception):
    """Raise it in a handler to say: definitely not done, and trying again is pointless."""


class NotDelivered(Exception):
    """Raise it in a handler to say: not done, for nothing of this call ever left.

    It says nothing about an earlier attempt whose outcome is unknown, and trying again may help.
    """


class OutcomeUnknown(Portable):
    """Raise it in a handler to say: it may or may not have happened (in doubt).

    Args:
        message: What is known.
        after_seconds: How long to wait at least before asking or calling again.
    """

    def __init__(self, message: str = "", after_seconds: float | None = None) -> None:
        self.after_seconds = after_seconds
        super().__init__(message)


class RetryLater(Portable):
    """Raise it in a handler to say: not done, but worth another try later.

    Args:
        after_seconds: How long to wait at least.
    """

    def __init__(self, after_seconds: float, message: str = "") -> None:
        self.after_seconds = after_seconds
        super().__init__(message or f"try again in {after_seconds} s")
