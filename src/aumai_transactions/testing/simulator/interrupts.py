"""An interrupt of a simulated process.

Owns: its exception.
"""


class Interrupted(BaseException):
    """Be an interrupt, such as Ctrl-C, that reaches a simulated process."""
