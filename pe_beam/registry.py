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
        with contextlib.suppress(Exception):  # another package's part that cannot be imported stops no run without it
            if fits(point.load(), modality):
                found.add(point.name)
    return sorted(found)


def fits(part: Any, modality: str) -> bool:
    """Returns whether the class of a generator or embedder is for this modality or for every modality."""
    return getattr(part, "modality", None) in (None, modality)


def find(kind: str, name: str, *, key: str, modality: str | None = None) -> Any:
    """Loads the registered object. Where the name is not known, the message lists those for `modality` (None: all).

    Raises:
      RecipeError: the name is not registered, or several packages have registered it, or it cannot be imported. The
        message has the key, the value and what is allowed.
      MissingExtraError: the object needs a package that is not installed.
    """
    found = _called(kind, name)
    if not found:
        _installed.cache_clear()  # a notebook installs packages while it runs
        found = _called(kind, name)
    if len(found) > 1:  # the order of folders on `sys.path` would decide which of them a recipe means
        raise RecipeError(
            f"{key}: several installed packages call a part {name!r} ({', '.join(sorted(found))}); uninstall all but "
            "one of them, or rename theirs"
        )
    for point in found.values():
        return load(point, f"{key}: {name!r}")
    known = names(kind) if modality is None else names_for(kind, modality)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError(f"{key}: {name!r} is not known{hint} (allowed: {', '.join(known) or 'none installed'})")


def _called(kind: str, name: str) -> dict[str, EntryPoint]:
    """Returns the entry points of a name, by what they load. A package that is found twice is one."""
    return {point.value: point for point in points(kind) if point.name == name}


def load(point: EntryPoint, what: str) -> Any:
    """Loads what an entry point names. `what` begins the message.

    Raises:
      RecipeError: its module cannot be imported, or has nothing of that name.
      MissingExtraError: it needs a package that is not installed.
    """
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{what} needs the package {error.name!r}, which is not installed") from error
    except Exception as error:
        told = str(error).partition("\n")[0]
        raise RecipeError(f"{what} cannot be imported from {point.value} ({type(error).__name__}: {told})") from error


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
