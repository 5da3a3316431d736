"""A record: its population columns, and why one cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """Why a record cannot be used. `kind` is one of a few fixed phrases; `detail` is private."""

    kind: str
    detail: str = ""
