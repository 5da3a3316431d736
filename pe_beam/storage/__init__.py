"""Where the files of a run lie: the stores behind `pe_beam.contracts.store`, found by the scheme of their URL.

A plain path is the local store. Any other store is an entry point of the group `pe_beam.stores`: its name is the
scheme, its object a class that is built from the URL. `objects` is what the object stores share: `gs`, and by obstore
`s3` and `az`. `reading` reads objects of any bucket with the same clients, for private data.

May import: contracts, registry, errors; Arrow.
"""

from __future__ import annotations

import os
from pathlib import Path

from pe_beam import registry
from pe_beam.contracts.store import Folder, Store
from pe_beam.errors import InputError
from pe_beam.storage.local import LocalStore


def open_store(uri: str | Path) -> Store:
    """The store of a path or a URL.

    Raises:
      InputError: it is neither a path nor a URL (nothing is written to a folder of the name `None`), no store is
        installed for its scheme, or it is a URL that has lost a slash.
      RecipeError, MissingExtraError: the store's class cannot be imported, or lacks a package that is not installed.

    >>> store = open_store("memory://an-example")
    >>> store.commit("notes.txt", b"whole or not at all")
    True
    >>> store.read("notes.txt")
    b'whole or not at all'
    """
    if not isinstance(uri, str | os.PathLike) or not str(uri):
        given = "an empty text" if isinstance(uri, str) else type(uri).__name__
        raise InputError(f"run directory: {given} names none; a path, or the URL of a store, is wanted")
    scheme, is_url, _ = str(uri).partition("://")
    if not is_url:
        _refuse_lost_slash(str(uri))
        return LocalStore(uri)
    found = _class_of(scheme.lower(), str(uri))
    if found is None:
        known = ", ".join(f"{name}://" for name in registry.names("stores") if name != "memory")
        raise InputError(f"--run-dir {uri}: no store is known by {scheme}:// (a path, or one of {known}, is wanted)")
    return found(str(uri))


def _refuse_lost_slash(path: str) -> None:
    """Refuses what pathlib makes of a URL: as a path, a folder `s3:` here would hold the private files."""
    scheme, is_marked, _ = path.partition(":/")
    if is_marked and scheme.lower() in registry.names("stores"):
        raise InputError(f"--run-dir {path}: {scheme}:// with two slashes is wanted; a folder of this name is ./{path}")


def open_folder(uri: str | Path) -> Folder:
    """All of the store of a path or a URL, as a folder."""
    return Folder(open_store(uri))


def _class_of(scheme: str, uri: str) -> type[Store] | None:
    for point in registry.points("stores"):
        if point.name == scheme:
            found: type[Store] = registry.load(point, f"--run-dir {uri}:")
            return found
    return None
