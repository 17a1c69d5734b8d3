import os

import pytest

from aumai_transactions.participants.process import ERROR_BYTES_MAX, Lost, Run, started, watched


def run(*argv, body=b"", timeout_seconds=10.0):
    return watched(started(argv, None, dict(os.environ)), body, timeout_seconds)


def test_a_program_is_fed_and_heard_to_its_end():
    script = "cat; echo oops >&2; exit 7"
    assert run("sh", "-c", script, body=b"in") == Run(7, b"in", b"oops\n")


def test_the_end_of_what_it_complains_about_is_kept():
    script = f"head -c {ERROR_BYTES_MAX * 3} /dev/zero >&2; printf last >&2"
    ended = run("sh", "-c", script)
    assert len(ended.errors) == ERROR_BYTES_MAX
    assert ended.errors.endswith(b"last")


def test_one_that_does_not_end_in_time_is_killed():
    process = started(["sleep", "100"], None, dict(os.environ))
    with pytest.raises(Lost, match=r"not ended after 0.2 s, and was killed"):
        watched(process, b"", 0.2)
    assert process.poll() == -9


@pytest.mark.parametrize("argv", [["no-such-program-anywhere"], ["/"], ["a\0b"]])
def test_one_that_cannot_be_started_says_so(argv):
    with pytest.raises((OSError, ValueError)):
        started(argv, None, {})
