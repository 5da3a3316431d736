"""Finds the samples that are closest to a training record, and those records. Only the private page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pe_beam.contracts.source import Piece
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.populations import population_rows
from pe_beam.engine.run import Run
from pe_beam.errors import PeBeamError
from pe_beam.evaluation.measure import load_nearest
from pe_beam.evaluation.rows import load_rows
from pe_beam.evaluation.setting import Setting, population
from pe_beam.evaluation.sources import voted_pieces, voted_source
from pe_beam.evaluation.training import rejected_rows, shard_rows

PAIRS = 12


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest training record, in a form that a View shows, and their distance."""

    sample: Mapping[str, Any]
    record: Mapping[str, Any]
    distance: float


def closest_pairs(run: Run, setting: Setting) -> list[Pair]:
    """Returns the closest pairs, closest first. There are fewer, or none, if private records were changed or moved."""
    if setting.no_training:
        return []
    name = population(setting.last)
    squared, rows = load_nearest(run)[name]
    order = np.argsort(squared, kind="stable")[:PAIRS]
    samples = _samples(run, setting.last, load_rows(run, name).rows[order].tolist())
    records = _records(run, rows[order])
    return [
        Pair(sample, records[int(row)], float(np.sqrt(squared[at])))
        for sample, row, at in zip(samples, rows[order], order, strict=True)
        if int(row) in records
    ]


def _samples(run: Run, iteration: int, rows: list[int]) -> list[dict[str, Any]]:
    """Returns rows of a population in the order of `rows`."""
    found: list[dict[str, Any]] = population_rows(run, iteration, np.array(rows, dtype=np.int64)).to_pylist()
    return found


def _records(run: Run, rows: np.ndarray) -> dict[int, dict[str, Any]]:
    """Returns row among all training records -> that record. It finds a frozen row by its position in the source."""
    found: dict[int, dict[str, Any]] = {}
    wanted = set(rows.tolist())
    start = 0
    try:
        pieces = voted_pieces(run)
        for shard in shards_of(run):
            count = shard_rows(run, shard["shard"])
            here = sorted(row - start for row in wanted if start <= row < start + count)
            piece = pieces.get(shard["piece"])
            if here and piece is not None and voted_source(run, piece).digest(piece) == shard["source"]:
                found |= {start + row: record for row, record in _of_piece(run, piece, here).items()}
            start += count
    except PeBeamError:  # the records were moved or are gone: the page says that there are no pairs to show
        return {}
    return found


def _of_piece(run: Run, piece: Piece, wanted: list[int]) -> dict[int, dict[str, Any]]:
    """Returns frozen rows of a piece as records. It embeds nothing again: ingest has listed the rejected records."""
    rejected = rejected_rows(run, piece.name)
    if rejected is None:
        return {}
    found: dict[int, dict[str, Any]] = {}
    position = 0
    for batch in voted_source(run, piece).read(piece):
        good = [row for row, where in enumerate(batch.rows) if where not in rejected]
        for row in wanted:
            if position <= row < position + len(good):
                at = good[row - position]
                shown = {"candidate_id": row, "parent_id": None, "label": batch.labels[at], "origin": "real"}
                found[row] = shown | batch.payload.slice(at, 1).to_pylist()[0]
        position += len(good)
    return found
