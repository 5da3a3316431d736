"""Functions that recipes of the tests name as filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def short(candidate: Mapping[str, Any]) -> bool:
    """Passes texts whose number of letters is even."""
    return len(candidate["text"]) % 2 == 0


def even(candidate: Mapping[str, Any]) -> bool:
    """Passes pictures with an even number of bytes."""
    return len(candidate["image"]) % 2 == 0


def nothing(candidate: Mapping[str, Any]) -> bool:
    """Passes nothing."""
    return False


def raising(candidate: Mapping[str, Any]) -> bool:
    """Raises, with the candidate in its message."""
    raise ValueError(candidate)


def vague(candidate: Mapping[str, Any]) -> Any:
    """Returns what is no boolean."""
    return "yes"
