"""Errors that a person sees: one sentence each, plus what to type next.

Exit codes are part of the command line's contract (docs/reference.md).
"""

from __future__ import annotations


class MftriageError(Exception):
    """A failure with a sentence for the user.

    ``remedy`` is what to type or do next; ``exit_code`` is the process's exit code.
    """

    exit_code = 70

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(MftriageError):
    """The command line asks for something that can't be done (exit 2)."""

    exit_code = 2


class DumpError(MftriageError):
    """The dump can't be read (exit 3)."""

    exit_code = 3


class SymbolsError(MftriageError):
    """The symbols that the user named can't be used (exit 2)."""

    exit_code = 2


class TicketError(MftriageError):
    """A ticket system refused, or could not be reached (exit 5)."""

    exit_code = 5
