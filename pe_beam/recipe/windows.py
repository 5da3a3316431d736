"""A window of a stream as an ordinary run: its recipe, its committed members, and clients whose windows are used up.

The manifest of a window is one private file of the stream. `data.path` of the window's run names it.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch
from pe_beam.errors import InputError
from pe_beam.keyed import encode_fields
from pe_beam.recipe.around import SourceAround
from pe_beam.recipe.files import RecipeFolder
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.start import Start
from pe_beam.recipe.start import resolve_start
from pe_beam.recipe.stream import instant_text
from pe_beam.storage import open_store
from pe_beam.storage.json_file import parse_json
from pe_beam.storage.parquet import parse_committed

VERSION = 1
KEY = "private/registry/key"
KEY_BYTES = 32
USED_UP = Fault("client whose windows are used up")
_MANIFESTS = "private/registry/manifests"
_DIGEST = 16  # bytes of a name's HMAC; two of 10^12 names are equal with a probability below 10^-14


def window_name(recipe: Recipe, index: int) -> str:
    """Returns the name of a window: its start.

    >>> from pe_beam.recipe.loading import load_recipe
    >>> window = {"every": "1d", "anchor": "2026-12-01T00:00Z"}
    >>> recipe = load_recipe("emoji", {"stream.window": window, "data.never_stop": True, "data.holdout": None})
    >>> window_name(recipe, 1)
    '20261202T000000Z'
    """
    assert recipe.stream is not None
    return instant_text(recipe.stream.window.start(index)).replace("-", "").replace(":", "")


def manifest_name(name: str) -> str:
    """Returns the file of a window's manifest in the stream's directory."""
    return f"{_MANIFESTS}/{name}.json"


def memory_name(name: str) -> str:
    """Returns the file that a window leaves in the stream's directory for those after it."""
    return f"memory/{name}.parquet"


def stream_root(path: str) -> str:
    """Returns the URI of the stream's directory from `data.path` of a window's run. Raises InputError if it is none."""
    root, mark, _ = path.rpartition(f"/{_MANIFESTS}/")
    if not mark:
        raise InputError("data.path: the manifest of a window is wanted, which `pe-beam stream` commits")
    return root


def window_recipe(recipe: Recipe, index: int, *, stream_dir: str, before: str | None) -> Recipe:
    """Returns the recipe of a window: an ordinary run with the members of the window for data.

    Its seed follows from the stream's and from the window's start, so that no two windows draw the same candidates.

    Args:
      recipe: the stream's recipe.
      index: of the window, from 0.
      stream_dir: the URI of the stream's directory.
      before: place of the window before's run, whose release it starts from; None: it starts as the recipe says.

    Raises:
      RecipeError: that release is not there, or it is damaged.
    """
    assert recipe.stream is not None
    at = instant_text(recipe.stream.window.start(index))
    stream = recipe.stream.model_copy(update={"at": at})
    path = f"{stream_dir.rstrip('/')}/{manifest_name(window_name(recipe, index))}"
    evolution = recipe.evolution
    if before is not None:
        # What windows cost that share a client, or records where they slide, is in the stream's own statement.
        start = None if stream.fresh == 1 else Start(release=before, fresh=stream.fresh, disjoint=True)
        evolution = evolution.model_copy(update={"start": start})
    found = recipe.model_copy(
        update={
            "seed": window_seed(recipe.seed, at),
            "data": recipe.data.model_copy(update={"path": path}),
            "evolution": evolution,
            "privacy": recipe.privacy.model_copy(update={"book": None}),  # the stream as a whole is in it
            "stream": stream,
        }
    )
    return resolve_start(found, RecipeFolder(stream_dir))


def window_seed(seed: int, at: str) -> int:
    """Returns the seed of the window that starts at an instant, below 2^63."""
    digest = hashlib.sha256(b"pe_beam/window/1" + encode_fields(seed, at)).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def read_manifest(path: str) -> dict[str, Any]:
    """Returns the manifest of the window that `data.path` names. Raises InputError if it is missing or damaged."""
    root = stream_root(path)
    name = path.removeprefix(f"{root}/")
    data = open_store(root).find_committed(name)
    if data is None:
        raise InputError("data.path: the manifest of the window is missing; put the stream's registry back as it was")
    return parse_json(data, name, dict)


class CappedSource(SourceAround):
    """Another source without the records of clients whose windows are used up. They are faults of those records alone.

    Args:
      source: the other source.
      stream_dir: URI of the stream's directory.
      clients: file of the clients' windows before this one.
      cap: windows in which a client counts.
    """

    def __init__(self, source: Source, *, stream_dir: str, clients: str, cap: int) -> None:
        super().__init__(source)
        self._stream_dir, self._clients, self._cap = stream_dir, clients, cap

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """Yields the rows of a piece."""
        key = registry_key(self._stream_dir)
        used = _used_up(self._stream_dir, self._clients, self._cap, key)
        for batch in self._source.read(piece):
            whose = [row for row, client in enumerate(batch.clients) if client is not None]
            digests = digests_of(key, "client", [str(batch.clients[row]) for row in whose])
            places = np.minimum(np.searchsorted(used, digests), max(len(used) - 1, 0))
            gone = used[places] == digests if len(used) else np.zeros(len(whose), bool)
            capped = {whose[at]: USED_UP for at in np.flatnonzero(gone)}
            yield replace(batch, faults={**capped, **batch.faults}) if capped else batch


def digests_of(key: bytes, purpose: str, names: Sequence[str]) -> np.ndarray:
    """Returns what the registry holds in place of names: HMAC-SHA-256 under its key, cut to 16 bytes, dtype S16.

    Args:
      key: the registry's key, 32 bytes.
      purpose: a short literal ("client", "position").
      names: n texts. The name of a file may have bytes that are not UTF-8 (as `os.fsdecode` gives them).
    """
    begun = hmac.new(key, encode_fields("pe_beam/registry", VERSION, purpose), hashlib.sha256)
    found = []
    for name in names:
        own = begun.copy()  # two thirds of the time of a new one
        own.update(name.encode("utf-8", "surrogateescape"))
        found.append(own.digest()[:_DIGEST])
    return np.frombuffer(b"".join(found), f"S{_DIGEST}") if found else np.zeros(0, f"S{_DIGEST}")


def digests_in(column: pa.ChunkedArray) -> np.ndarray:
    """Returns a column of fixed-size digests without nulls as S16 (n,)."""
    parts = [
        np.frombuffer(chunk.buffers()[1], f"S{_DIGEST}", len(chunk), chunk.offset * _DIGEST)
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, f"S{_DIGEST}")


def registry_key(stream_dir: str) -> bytes:
    """Returns the registry's key. Raises InputError if it is missing or damaged: no stream goes on without it."""
    found = open_store(stream_dir).find_committed(KEY)
    if found is None or len(found) != KEY_BYTES:
        raise InputError(f"{KEY}: missing or damaged; without it no stream goes on. Put it back as it was")
    return found


def parse_clients(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns clients' windows: digests S16 (n,), ascending, and indices of windows int32 (n, k); -1: none.

    Raises InputError, which names the file, if it is damaged.
    """
    table = parse_committed(data, name)
    digests = digests_in(table["client"])
    windows = table["windows"].combine_chunks()
    width = windows.type.list_size
    return digests, windows.flatten().to_numpy(zero_copy_only=False).astype(np.int32).reshape(-1, width)


@functools.lru_cache(maxsize=2)
def _used_up(stream_dir: str, name: str, cap: int, key: bytes) -> np.ndarray:
    """Returns the digests of clients who have counted in `cap` windows, ascending. A registry commits the file once.

    The key says which registry: a stream that is made anew in the same place has another.
    """
    data = open_store(stream_dir).find_committed(name)
    if data is None:
        raise InputError("private/registry/clients: the file of the last window is missing; put it back as it was")
    digests, windows = parse_clients(data, name)
    return digests[(windows >= 0).sum(axis=1) >= cap]
