"""Warnings that point at the line outside of pe_beam that has called it."""

from __future__ import annotations

import sys
import warnings

from pe_beam.errors import PeBeamWarning


def warn(text: str) -> None:
    """Warns with a `PeBeamWarning`."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pe_beam."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, PeBeamWarning, stacklevel=level)
