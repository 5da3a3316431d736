"""Texts of others on a terminal."""

from __future__ import annotations


def fitting(line: str, encoding: str | None) -> str:
    """Returns a line with another sign for those that a terminal's encoding does not have."""
    return line.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8")


def printable(text: str) -> str:
    """Returns a text with another sign for those that steer a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
