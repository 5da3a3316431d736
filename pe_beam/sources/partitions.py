"""Columns that names of folders give, as Hive and Spark write them: `year=2026/`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from pe_beam import names
from pe_beam.sources import files, finding

MISSING_PART = "__HIVE_DEFAULT_PARTITION__"
"""The value that Hive and Spark write into the name of a folder whose rows have no value."""


def partition(file: str, path: str) -> dict[str, str | None]:
    """Returns the columns that folder names below `path` give all rows of a file, as Hive and Spark do: `year=2026/`.

    >>> partition("/d/x/a%2Fb=c%20d/n=__HIVE_DEFAULT_PARTITION__/0.parquet", "/d")
    {'a/b': 'c d', 'n': None}
    """
    found: dict[str, str | None] = {}
    for part in finding.inside(file, path).split("/")[:-1]:
        key, sign, value = files.printable(part).partition("=")
        if sign and key:
            found[unquote(key)] = None if value in ("", MISSING_PART) else unquote(value)
    return found


def given(file: str, path: str, wanted: Sequence[str]) -> dict[str, str | None]:
    """Returns those of the wanted columns that folder names give (`partition`)."""
    found = partition(file, path)
    keys = list(found)
    where = {column: names.locate(column, keys) for column in wanted} if keys else {}
    return {column: found[keys[places[0]]] for column, places in where.items() if places}


def given_digest(columns: Mapping[str, str | None], own: Sequence[str]) -> bytes:
    """Returns a digest of the columns that folder names give; empty if a file has them all itself, as most have."""
    used = sorted((key, value) for key, value in columns.items() if not names.locate(key, own))
    return hashlib.sha256(json.dumps(used).encode()).digest() if used else b""
