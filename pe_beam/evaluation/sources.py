"""The sources that an evaluation reads, and the records that transforms have yielded in place of their pieces."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pe_beam.contracts.source import Piece, Source
from pe_beam.engine.cuttable import Cuttable, Opened
from pe_beam.engine.records import Place, join_records
from pe_beam.engine.run import Run
from pe_beam.errors import PeBeamError
from pe_beam.evaluation.own_metrics import metrics_of
from pe_beam.evaluation.setting import HELD_OUT, VOTED, WORK, Setting
from pe_beam.recipe.sources import private_source

_PIECE = "pe_beam.piece"


def cuttable(run: Run) -> dict[str, Cuttable]:
    """Returns the sources that an evaluation cuts into pieces, by group. Raises as `sources_of`."""
    return {name: each for name, each in sources_of(run).items() if _transform(run, name, each.source) is None}


def transforms_of(run: Run) -> dict[str, Any]:
    """Returns the transforms that yield records, by group, of sources that are not cut. Raises as `sources_of`.

    Records that voted are left out if their files are gone.
    """
    found = {}
    for name, each in sources_of(run).items():
        transform = _transform(run, name, each.source)
        with contextlib.suppress(*([each.forgives] if each.forgives else [])):
            if transform is not None and each.source.files():
                found[name] = transform
    return found


def _transform(run: Run, group: str, source: Source) -> Any:
    return source.transform(Opened(run.store.uri, sources_of, group))


def land_records(run: Run, group: str, place: Place, parts: Iterable[bytes]) -> Piece:
    """Keeps the records of a piece that a transform has yielded, for the portion that reads it. Returns the piece."""
    piece, table = join_records(place, parts)
    piece = replace(piece, stop=piece.start + len(table))
    told = {_PIECE: json.dumps([piece.file, piece.file_index, piece.start, piece.stop])}
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema.with_metadata(told)) as writer:
        writer.write_table(table)
    run.store.commit(_landed_name(group, piece), sink.getvalue(), replace=True)
    return piece


def voted_pieces(run: Run) -> dict[str, Piece]:
    """Returns the pieces of the records that voted, by name. Raises PeBeamError if they cannot be listed."""
    source = private_source(run.recipe)
    if _transform(run, VOTED, source) is None:
        return {piece.name: piece for piece in source.pieces()}
    found = [
        Piece(*json.loads(pa.ipc.open_stream(run.store.read(name)).schema.metadata[_PIECE.encode()]))
        for name in run.store.list_files(f"{WORK}/records/{VOTED}")
    ]
    return {piece.name: piece for piece in found}


def voted_source(run: Run, piece: Piece) -> Source:
    """Returns the source that reads a piece of the records that voted."""
    return private_source(run.recipe, records_of(run, VOTED, piece))


def _landed_name(group: str, piece: Piece) -> str:
    return f"{WORK}/records/{group}/{piece.name}.arrow"


def records_of(run: Run, group: str, piece: Piece) -> pa.Table | None:
    """Returns the records of a piece that a transform has yielded; None: the source reads the piece itself."""
    name = _landed_name(group, piece)
    return pa.ipc.open_stream(run.store.read(name)).read_all() if run.store.exists(name) else None


def sources_of(run: Run) -> dict[str, Cuttable]:
    """Returns the sources that an evaluation reads, by group. Raises InputError if the recipe has no holdout."""
    setting = Setting.load(run)
    found = {HELD_OUT: Cuttable(setting.held_out(run))}
    if metrics_of(run.modality) and not setting.no_training:
        # Records that were moved stop nothing: the result says that they are left out.
        found[VOTED] = Cuttable(private_source(run.recipe), is_digested=True, forgives=PeBeamError)
    return found
