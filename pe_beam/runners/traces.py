"""Errors of this package in the text of a runner's error, and a place for all other text, which may have values."""

from __future__ import annotations

import contextlib
import re

from pe_beam import errors
from pe_beam.contracts.store import Store
from pe_beam.errors import PeBeamError

_OURS = re.compile(r"pe_beam\.errors\.(\w+): (.*?)(?: \[while running .*|\\n.*)?$", re.MULTILINE)


def own_error(text: str) -> PeBeamError | None:
    """Returns the last error of this package that a text has, or None."""
    found = _OURS.findall(text)
    if not found:
        return None
    name, message = found[-1]
    kind = getattr(errors, name, PeBeamError)
    return kind(message) if issubclass(kind, PeBeamError) else PeBeamError(message)


def keep_trace(store: Store, label: str, text: str) -> str:
    """Writes what a runner said of a failed graph below `private/`, and returns the name of the file."""
    name = f"private/errors/{re.sub(r'[^A-Za-z0-9]+', '-', label)}.txt"
    with contextlib.suppress(PeBeamError):
        store.commit(name, text.encode(), replace=True)
    return name
