"""When a call is tried again.

Owns: the arithmetic of retry policies, and the policies of those who declare none
(SEMANTICS C6). Nothing depends on the store.
Rules:
  1. The core draws nothing: the draw comes in with what was seen, and goes into the journal.
  2. A wait that would end behind the budget is not begun.

Source: full jitter as in Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
2015.
"""

from __future__ import annotations

from aumai_transactions.core.definition import Policy, Retry

DEFAULT_RETRY = Retry()
_ONCE = Retry(attempts_max=1)
_INSTANT_MAX = 2**62


def undo_retry(policy: Policy) -> Retry:
    """Return how often a compensating action is called: once, unless more is declared."""
    if policy.undo_retry is not None:
        return policy.undo_retry
    return DEFAULT_RETRY if policy.undo_idempotent else _ONCE


def delay_bound(retry: Retry, attempt: int) -> float:
    """Return the longest wait in seconds after this attempt, from 1."""
    try:
        grown = retry.first_delay_seconds * retry.delay_factor ** (attempt - 1)
    except OverflowError:
        grown = retry.delay_seconds_max
    return min(grown, retry.delay_seconds_max)


def next_due(
    retry: Retry,
    attempts: int,
    first_at: int,
    now: int,
    *,
    draw: float,
    asked_seconds: float | None = None,
) -> int | None:
    """Return when the next attempt may begin; None where none follows.

    Args:
        retry: The policy.
        attempts: How many attempts have been made.
        first_at: When the first of them began, microseconds since 1970 UTC.
        now: Microseconds since 1970 UTC.
        draw: From 0 to 1.
        asked_seconds: How long to wait at least, where somebody asked for it.
    """
    if attempts >= retry.attempts_max:
        return None
    delay = delay_bound(retry, attempts) * (1 - retry.jitter * (1 - draw))
    delay = max(delay, asked_seconds or 0.0)
    due = now + min(round(delay * 1_000_000), _INSTANT_MAX - now)
    if retry.budget_seconds is not None and due > first_at + retry.budget_seconds * 1_000_000:
        return None
    return due
