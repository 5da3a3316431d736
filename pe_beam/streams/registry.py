"""The registry: which positions and which clients have been in which windows. Private, and never purged.

It holds HMACs under a key of its own in place of names. The key is drawn once, keys no noise and survives purges. All
positions up to a window are one file, which is committed once; so are the clients' windows. Both are functions of the
file before and of the window's members, so that a kill and a replay change nothing.
"""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pe_beam.contracts.store import Store
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.run import Run
from pe_beam.errors import InputError
from pe_beam.recipe.windows import KEY, KEY_BYTES, digests_in, digests_of, parse_clients, registry_key, window_name
from pe_beam.storage.parquet import parquet_file, parse_committed
from pe_beam.streams.layout import LEDGER, STREAM, clients_name, positions_name

_DIGEST = pa.binary(16)


def ensure_key(store: Store) -> None:
    """Draws the registry's key for a new stream. Raises InputError if a stream has lost its key."""
    if not store.exists(KEY) and (store.exists(STREAM) or store.exists(LEDGER)):
        raise InputError(f"{KEY}: missing; without it no stream goes on. Put it back, or start a new stream")
    store.commit(KEY, os.urandom(KEY_BYTES))
    store.protect("private")
    registry_key(store.uri)


def known_positions(store: Store, before: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns all positions up to a window: digests S16 (n,), ascending, and in how many windows each is, int32 (n,).

    Args:
      store: of the stream.
      before: name of the window; None: there is none.

    Raises:
      InputError: the file is missing or damaged.
    """
    if before is None:
        return np.zeros(0, "S16"), np.zeros(0, np.int32)
    name = positions_name(before)
    table = parse_committed(_read(store, name), name)
    return digests_in(table["position"]), table["windows"].to_numpy()


def commit_positions(
    store: Store, name: str, before: str | None, members: list[str], rejected: list[str], *, cap: int
) -> None:
    """Commits all positions up to a window.

    Args:
      store: of the stream.
      name: of the window.
      before: name of the window before; None: it is the first.
      members: those of the window.
      rejected: those that it rejects: they are in no later window either.
      cap: windows in which a position may be.
    """
    if store.exists(positions_name(name)):
        return
    digests, times = known_positions(store, before)
    key = registry_key(store.uri)
    here, out = (np.unique(digests_of(key, "position", names)) for names in (members, rejected))
    every = np.union1d(np.union1d(digests, here), out)
    windows = np.zeros(len(every), np.int32)
    windows[np.searchsorted(every, digests)] = times
    windows[np.searchsorted(every, here)] += 1
    windows[np.searchsorted(every, out)] = cap
    store.commit(positions_name(name), _bytes(pa.table({"position": _column(every), "windows": windows})))


def commit_clients(store: Store, run: Run, before: str | None) -> None:
    """Commits all clients' windows up to this one: after its records are frozen, before a line is written.

    A client without a usable record has not used the window. One whose windows are used up has no usable record.

    Args:
      store: of the stream.
      run: of the window.
      before: name of the window before; None: it is the first.

    Raises:
      InputError: a client would count in more windows than the cap.
    """
    stream = run.recipe.stream
    assert stream is not None
    name, cap = window_name(run.recipe, stream.index), stream.client_windows
    if store.exists(clients_name(name)):
        return
    digests, windows = clients_before(store, before, cap)
    here = np.unique(digests_of(registry_key(store.uri), "client", _clients_of(run)))
    every = np.union1d(digests, here)
    merged = np.full((len(every), cap), -1, np.int32)
    merged[np.searchsorted(every, digests)] = windows
    places = np.searchsorted(every, here)
    used = (merged[places] >= 0).sum(axis=1)
    if (used >= cap).any():
        raise InputError("private/registry/clients: a client would count in too many windows; put it back as it was")
    merged[places, used] = stream.index
    values = pa.FixedSizeListArray.from_arrays(pa.array(merged.ravel()), cap)
    store.commit(clients_name(name), _bytes(pa.table({"client": _column(every), "windows": values})))


def clients_before(store: Store, before: str | None, cap: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the clients' windows up to a window, as `parse_clients`. Raises InputError if its file is not there."""
    if before is None:
        return np.zeros(0, "S16"), np.zeros((0, cap), np.int32)
    name = clients_name(before)
    return parse_clients(_read(store, name), name)


def forget_older(store: Store, name: str) -> None:
    """Deletes the files of earlier windows, which the one of this window contains."""
    for pattern in (positions_name, clients_name):
        latest = pattern(name)
        if store.exists(latest):
            for older in store.list_files(latest.rsplit("/", 1)[0]):
                if older < latest:
                    store.delete(older)


def _clients_of(run: Run) -> list[str]:
    """Returns the clients of a window, each once."""
    found = []
    for shard in shards_of(run):
        with parquet_file(run.store, shard["shard"]) as file:
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, columns=["client"])["client"]
                found.append(pc.unique(column.cast(pa.string())))
    names: list[str] = pc.unique(pa.chunked_array(found, pa.string())).to_pylist()
    return names


def _read(store: Store, name: str) -> bytes:
    if not store.exists(name):
        raise InputError(f"{name.rsplit('/', 1)[0]}: the file of the last window is missing; put it back as it was")
    return store.read(name)


def _column(digests: np.ndarray) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(_DIGEST, len(digests), [None, pa.py_buffer(digests.tobytes())])


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return bytes(sink.getvalue())
