"""Closes a window: commits its members once, under the stream's lock, before its first output (rule 16)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pe_beam import registry
from pe_beam.contracts.source import Source
from pe_beam.contracts.store import Store
from pe_beam.contracts.stream import Cut, StreamRequest, StreamSource
from pe_beam.errors import DataError, InputError
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sources import find_source, source_at
from pe_beam.recipe.stream import duration, instant_text
from pe_beam.recipe.windows import VERSION, digests_of, manifest_name, registry_key, window_name
from pe_beam.storage.json_file import parse_json
from pe_beam.streams.layout import clients_name
from pe_beam.streams.registry import commit_positions, known_positions

_CHEAP = 1 << 20  # bytes that may be read of a file to see whether it can be opened


def stream_source(recipe: Recipe) -> StreamSource:
    """Returns what says which records belong to a window.

    Raises:
      RecipeError: it is not known, or it does not fit the recipe.
    """
    assert recipe.stream is not None
    cls: type[StreamSource] = registry.find("stream_sources", recipe.stream.source, key="stream.source")
    data = recipe.data
    if cls.reads is not None and data.source not in cls.reads:
        raise InputError(
            f"stream.source: {recipe.stream.source} is read by data.source {' or '.join(sorted(cls.reads))}, not by "
            f"{data.source}"
        )
    if recipe.stream.sliding > 1 and not cls.slides:
        raise InputError(f"stream.sliding: not with source {recipe.stream.source}, whose windows tile; 1 is wanted")
    return cls.open(
        StreamRequest(
            data_source=data.source,
            path=data.path,
            listing=lambda: _data_source(recipe, None).listed(),
            stamp=recipe.stream.stamp,
            close_after=duration(recipe.stream.window.close_after),
            data_options=find_source(data.source).Options.model_validate(data.options),
            options=cls.Options.model_validate(recipe.stream.options),
        )
    )


def close_window(recipe: Recipe, store: Store, index: int) -> bytes:
    """Commits the manifest of a window, and all positions up to it. Returns the manifest's bytes.

    Members are fixed by stamps alone. A position that an earlier window holds, one that is stamped before the window
    and came too late, and a file that cannot be opened are rejects: the manifest names them.

    Raises:
      InputError: the source cannot be asked, or lacks records that the window needs.
    """
    name, before = window_name(recipe, index), window_name(recipe, index - 1) if index else None
    data = store.find_committed(manifest_name(name))
    if data is None:
        store.commit(manifest_name(name), _manifest(recipe, store, index, before))
        data = store.read_committed(manifest_name(name))
    found = parse_json(data, manifest_name(name), dict)
    assert recipe.stream is not None
    rejected = [each["position"] for each in found["rejects"]]
    commit_positions(store, name, before, found["positions"], rejected, cap=recipe.stream.sliding)
    return data


def _manifest(recipe: Recipe, store: Store, index: int, before: str | None) -> bytes:
    assert recipe.stream is not None
    span = recipe.stream.window.span(index)
    earlier = None if before is None else manifest_name(before)
    last = None if earlier is None else parse_json(store.read_committed(earlier), earlier, dict)
    source = stream_source(recipe)
    cut = source.cut(span, None if last is None else last["members"])
    rejects = _rejects(recipe, store, cut, before)
    gone = {position for position, kind in rejects if kind in (_TWICE, _UNREADABLE)}
    by_client = recipe.privacy.unit == "client" and before is not None
    manifest = {
        "version": VERSION,
        "index": index,
        "start": instant_text(span.start),
        "stop": instant_text(span.stop),
        "path": recipe.data.path,
        "members": source.without(cut.members, gone) if gone else cut.members,
        "positions": [position for position in cut.positions if position not in gone],
        "rejects": [{"position": position, "kind": kind} for position, kind in sorted(rejects)],
        "clients": {"clients": clients_name(str(before)), "cap": recipe.stream.client_windows} if by_client else None,
        "before": None if before is None else hashlib.sha256(store.read_committed(manifest_name(before))).hexdigest(),
    }
    return json.dumps(manifest, indent=1).encode()


_TWICE = "in as many windows already as a record may be in"
_LATE = "stamped before this window, and in no earlier one"
_UNSTAMPED = "no stamp that stream.stamp can read"
_UNREADABLE = "cannot be opened as data.source wants it"


def _rejects(recipe: Recipe, store: Store, cut: Cut, before: str | None) -> set[tuple[str, str]]:
    """Returns (position, kind) of what is no member, or may not be. Rejects of earlier windows are not named again."""
    if not (cut.positions or cut.late or cut.unstamped):
        return set()
    assert recipe.stream is not None
    known, times = known_positions(store, before)
    full, key = known[times >= recipe.stream.sliding], registry_key(store.uri)

    def among(positions: Sequence[str], digests: np.ndarray) -> list[bool]:
        return [bool(found) for found in np.isin(digests_of(key, "position", positions), digests)]

    twice = {(p, _TWICE) for p, used in zip(cut.positions, among(cut.positions, full), strict=True) if used}
    late = {(p, _LATE) for p, old in zip(cut.late, among(cut.late, known), strict=True) if not old}
    unstamped = {(p, _UNSTAMPED) for p, old in zip(cut.unstamped, among(cut.unstamped, known), strict=True) if not old}
    unreadable = {(p, _UNREADABLE) for p in _unreadable(recipe, cut)}
    return twice | late | unstamped | unreadable


def _unreadable(recipe: Recipe, cut: Cut) -> Collection[str]:
    """Returns the positions of files that cannot be opened, as far as a look at their heads or footers shows it.

    Each file is judged by itself. Of a large text file the first range is read: its lines are records of their own.
    """
    if not cut.positions:
        return ()
    source = _data_source(recipe, cut.members)
    files = {file: position for (file, _), position in zip(source.listed(), cut.positions, strict=True)}
    found = set()
    for part in source.files():
        head = part.start == 0 and part.stop > _CHEAP
        if part.file in files and (part.cost <= _CHEAP or head):
            try:
                source.cut_file(replace(part, stop=_CHEAP) if head else part)
            except DataError:
                found.add(files[part.file])
    return found


def _data_source(recipe: Recipe, members: Any) -> Source:
    return source_at(recipe, recipe.data.path, part=None, members=members)
