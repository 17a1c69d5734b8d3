"""Does an HTTP participant keep what a saga has to count on?

Owns: nothing but the names. `python -m aumai_transactions.testing.participant URL` asks for a
table; `check_participant` is the same from Python.
"""

from aumai_transactions.testing.participant.bench import CannotCheck, Participant
from aumai_transactions.testing.participant.checks import check_participant
from aumai_transactions.testing.participant.report import Line, ParticipantReport

__all__ = ["CannotCheck", "Line", "Participant", "ParticipantReport", "check_participant"]
