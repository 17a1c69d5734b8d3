"""Mistakes of the barrier of the participants.

Owns: those mutants.
"""
# mypy: disable-error-code="attr-defined"

