import pytest

from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.happenings import log_line, sentence

ERROR = {"type": "X", "message": "no"}
SAVEPOINT = {"scope_id": "g1", "kind": "savepoint", "name": "try"}
INSIDE = {"step_id": "c", "agent_id": "z", "action": "do", "scope_id": "g1"}


def said(events, *told):
    """What the last of these says."""
    found = events(*told)
    return sentence(Timeline.of("t", found), found[-1])


@pytest.mark.parametrize(
    "told,text",
    [
        ([("scope_opened", None, {"scope": SAVEPOINT})], "the savepoint try begins"),
        (
            [
                ("scope_opened", None, {"scope": {"scope_id": "n1", "kind": "child"}}),
                ("scope_opened", None, {"scope": SAVEPOINT | {"parent": "n1"}}),
            ],
            "the savepoint try begins, inside the nested transaction n1",
        ),
        (
            [
                ("scope_opened", None, {"scope": SAVEPOINT}),
                ("step_added", "c", {"step": INSIDE}),
            ],
            "c: z asks for do, inside the savepoint try",
        ),
        (
            [("step_added", "c", {"step": {**INSIDE, "scope_id": None}, "fork": "a"})],
            "c: z asks for do, in the place of a, which was not asked for again",
        ),
        (
            [
                ("scope_opened", None, {"scope": {"scope_id": "n1", "kind": "child"}}),
                ("scope_released", None, {"scope_id": "n1"}),
            ],
            "the nested transaction n1 has committed into what it stands in, and is final",
        ),
        (
            [
                ("scope_opened", None, {"scope": SAVEPOINT}),
                (
                    "partial_rollback_started",
                    None,
                    {"step_ids": ["a", "b"], "reason": "requested", "scope_id": "g1"},
                ),
            ],
            "the savepoint try is rolled back: a, b (requested)",
        ),
        (
            [
                (
                    "partial_rollback_started",
                    "a",
                    {"step_ids": ["a", "b"], "reason": "in_doubt", "error": ERROR},
                )
            ],
            "a, b is undone alone (in doubt of a): X: no",
        ),
        (
            [("approval_requested", "a", {"digest": "d"})],
            "a: a person must allow it",
        ),
        (
            [("approval_requested", "a", {"digest": "d", "until": 1772193800000000})],
            "a: a person must allow it until 12:03:20Z",
        ),
        (
            [("approval_given", "a", {"digest": "d", "by": "bob", "note": "\x1b"})],
            r"a: allowed, by bob (\x1b)",
        ),
        (
            [("locks_awaited", None, {"resources": [{"name": "r\x1b"}], "behind": ["t1", "t2"]})],
            r"waits for r\x1b, behind t1, t2",
        ),
        (
            [("locks_awaited", "a", {"resources": [{"name": "r", "mode": "shared"}]})],
            "a: waits for r (shared)",
        ),
        (
            [("locks_granted", "a", {"grants": [{"name": "r", "token": 3}]})],
            "a: has r",
        ),
        ([("locks_granted", None, {"grants": []})], "has all that it waited for"),
        (
            [("versions_read", None, {"versions": [{"name": "r", "version": 3}]})],
            "reads r, which must not change before the commit",
        ),
        ([("approval_denied", "a", {"by": "", "note": "late"})], "a: denied, for nobody answered"),
        (
            [("undo_window_closing", "a", {"until": 1772193800000000})],
            "a: it can be undone until 12:03:20Z only, and that is soon",
        ),
        ([("reread_answered", "a", {"holds": True})], "a: read again before the commit: it still"),
        (
            [("reread_answered", "a", {"holds": False, "error": ERROR})],
            "a: read again before the commit: it does not hold any more: X: no",
        ),
        ([("commit_decided", None, {})], "the commit is decided: from here on it only goes fo"),
        ([("confirmation_started", "a", {"attempt": 2})], "a: confirming it, attempt 2"),
        ([("confirmation_succeeded", "a", {"attempt": 1})], "a: confirmed"),
        (
            [("confirmation_failed", "a", {"attempt": 1, "error": ERROR})],
            "a: not confirmed: X: no",
        ),
        (
            [
                ("confirmation_failed", "a", {"attempt": 1, "error": ERROR}),
                (
                    "retry_scheduled",
                    "a",
                    {
                        "operation": "confirmation",
                        "attempt": 2,
                        "due_at": "2026-02-27T12:00:13+00:00",
                    },
                ),
            ],
            "a: next confirmation 12:00:13Z, attempt 2, in 10.0 s",
        ),
        (
            [("claimed", None, {"driver_id": "d", "takeover": True})],
            "its process had died; another one took it over",
        ),
        (
            [("claimed", None, {"driver_id": "d", "takeover": True, "resumes": True})],
            "its program was started again, and goes on with it",
        ),
        (
            [("rollback_requested", None, {"by": "me", "note": "no"})],
            "rollback requested, by me (n",
        ),
        (
            [("step_requested", None, {"request_id": "r", "step": INSIDE, "by": "p2"})],
            "somebody else wants z to do do, by p2",
        ),
        (
            [("step_refused", None, {"request_id": "r", "error": ERROR})],
            "what somebody else wanted cannot be, and was not begun: X: no",
        ),
        (
            [
                ("scope_opened", None, {"scope": {"scope_id": "n1", "kind": "child"}}),
                ("undo_request_refused", None, {"scope_id": "n1", "step_ids": ["a"]}),
            ],
            "the nested transaction n1 is not undone alone, for this depends on it: a",
        ),
        ([("of_a_later_release", None, {})], "of a later release"),
        ([("of_a_later_release", "a", {})], "a: of a later release"),
    ],
)
def test_every_kind_of_entry_is_told_in_plain_words(events, told, text):
    assert said(events, *told).startswith(text)


def test_a_line_of_a_log_begins_with_the_time(events):
    found = events(("commit_decided", None, {}))
    assert log_line(Timeline.of("t", found), found[-1]).startswith("12:00:02.000  the commit is")
