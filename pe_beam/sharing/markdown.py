"""Writes Markdown. Names and labels are the holder's words: none of them becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!$~&])")


def plain(text: object) -> str:
    """Returns a text that Markdown shows as it is, on one line.

    >>> plain("a|b <i>\\nnext")
    'a\\\\|b \\\\<i\\\\> next'
    """
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Returns a table of cells that are Markdown already."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
