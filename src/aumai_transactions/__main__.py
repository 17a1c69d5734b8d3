"""`python -m aumai_transactions` is the command line.

Owns: nothing.
"""

from aumai_transactions.cli import main

if __name__ == "__main__":
    main(prog_name="aumai-transactions")
