"""The command line `aumai-transactions`.

Owns: what a person or a script types, reads and gets as an exit code. It decides nothing about
transactions: every command is a few calls of a `TransactionManager`.
Rules:
  1. Results go to standard output, everything else to standard error.
  2. Whatever came from outside (ids, names, data, errors) is escaped before a person sees it;
     JSON stays JSON.
  3. Never a traceback. What an error means for the exit code stands in one table (`exits.py`).
  4. Nothing is shortened but the redrawn progress; an id never is.
"""

from aumai_transactions.cli.group import main

__all__ = ["main"]
