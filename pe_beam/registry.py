"""Finds parts by name, ours and third parties', through entry points."""

from __future__ import annotations

import contextlib
import difflib
import functools
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pe_beam.errors import MissingExtraError, RecipeError


def names(kind: str) -> list[str]:
    """The registered names of a kind ("sources", "generators", "embedders", "modalities", "runners", ...), sorted."""
    return sorted({point.name for point in points(kind)})


def names_for(kind: str, modality: str) -> list[str]:
    """The names of generators or embedders that go with a modality; those that cannot be loaded are left out."""
    found = set()
    for point in points(kind):
        with contextlib.suppress(ImportError):
            if fits(point.load(), modality):
                found.add(point.name)
    return sorted(found)


def fits(part: Any, modality: str) -> bool:
    """Whether a generator's or embedder's class is of this modality, or of any."""
    return getattr(part, "modality", None) in (None, modality)


def find(kind: str, name: str, *, key: str) -> Any:
    """The registered object.

    Raises:
      RecipeError: no such name; the message holds the key, the value, and the names there are.
      MissingExtraError: its package lacks something that is not installed.
    """
    for point in points(kind):
        if point.name == name:
            try:
                return point.load()
            except ImportError as error:
                raise MissingExtraError(
                    f"{key}: {name!r} needs the package {error.name!r}, which is not installed"
                ) from error
    known = names(kind)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError(f"{key}: {name!r} is not known{hint} (allowed: {', '.join(known) or 'none installed'})")


def points(kind: str) -> tuple[EntryPoint, ...]:
    """All entry points of a kind, for whoever has words of its own for one that is missing."""
    return _installed(tuple(sys.path)).get(f"pe_beam.{kind}", ())


@functools.lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """All entry points of ours by group, read once for each `sys.path`: a run asks 40 times, each 20 ms of reading."""
    every = entry_points()
    return {group: tuple(every.select(group=group)) for group in every.groups if group.startswith("pe_beam.")}
