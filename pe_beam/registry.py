"""Finds parts by name through entry points: the package's own parts and those of third parties."""

from __future__ import annotations

import contextlib
import difflib
import functools
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pe_beam.errors import MissingExtraError, RecipeError


def names(kind: str) -> list[str]:
    """Returns the sorted names of a kind ("sources", "generators", "embedders", "modalities", "runners", ...)."""
    return sorted({point.name for point in points(kind)})


def names_for(kind: str, modality: str) -> list[str]:
    """Returns the sorted names of generators or embedders for a modality, without those that cannot be loaded."""
    found = set()
    for point in points(kind):
        with contextlib.suppress(ImportError):
            if fits(point.load(), modality):
                found.add(point.name)
    return sorted(found)


def fits(part: Any, modality: str) -> bool:
    """Returns whether the class of a generator or embedder is for this modality or for every modality."""
    return getattr(part, "modality", None) in (None, modality)


def find(kind: str, name: str, *, key: str, modality: str | None = None) -> Any:
    """Loads the registered object. Where the name is not known, the message lists those for `modality` (None: all).

    Raises:
      RecipeError: the name is not registered. The message has the key, the value and the registered names.
      MissingExtraError: the object needs a package that is not installed, or another version of one.
    """
    for point in points(kind):
        if point.name == name:
            try:
                return point.load()
            except ImportError as error:
                lacking = isinstance(error, ModuleNotFoundError)
                raise MissingExtraError(
                    f"{key}: {name!r} needs the package {error.name!r}, which is not installed"
                    if lacking
                    else f"{key}: {name!r} cannot be loaded: it needs another version of {error.name!r}"
                ) from error
    known = names(kind) if modality is None else names_for(kind, modality)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError(f"{key}: {name!r} is not known{hint} (allowed: {', '.join(known) or 'none installed'})")


def points(kind: str) -> tuple[EntryPoint, ...]:
    """Returns all entry points of a kind, for callers with their own message for a missing one."""
    return _installed(tuple(sys.path)).get(f"pe_beam.{kind}", ())


@functools.lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Returns the entry points of pe_beam's groups, by group.

    They are read once for each `sys.path`: a run asks 40 times, and each reading takes 20 ms.
    """
    every = entry_points()
    return {group: tuple(every.select(group=group)) for group in every.groups if group.startswith("pe_beam.")}
