"""Reads JSON that a run has written. What a disk has damaged is named: it is no fault of the program."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pe_beam.contracts.store import Folder, Store
from pe_beam.errors import damaged

T = TypeVar("T", dict[str, Any], list[Any])


def read_json(place: Store | Folder, name: str, kind: type[T]) -> T:
    """Returns the content of a file. Raises InputError if it is not JSON of this kind (dict or list)."""
    return parse_json(place.read(name), name, kind)


def parse_json(data: bytes, name: str, kind: type[T]) -> T:
    """Returns the content of a file that was read. Raises InputError if it is not JSON of this kind (dict or list)."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise damaged(name)
    return found
