"""Words of sentences for people. The module needs nothing, so that a command that only prints stays quick."""

from __future__ import annotations


def counted(count: int | str, one: str) -> str:
    """Returns a number, as it is or already written for people, with the noun that it counts.

    >>> counted(1, "vote"), counted("1.414", "vote"), counted(0, "vote")
    ('1 vote', '1.414 votes', '0 votes')
    """
    return f"{count} {one}" if str(count) == "1" else f"{count} {one}s"
