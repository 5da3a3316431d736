"""Estimates the memory of vectors from declared values alone, before any data is read."""

from __future__ import annotations

from pe_beam import registry
from pe_beam.contracts.source import SHARD_ROWS
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import new_embedder

LARGE = 10**9
"""Memory of one worker in bytes from which a plan has a warning."""


def memory_warning(recipe: Recipe) -> str | None:
    """Returns a warning if long vectors need much memory. Returns None if they need little or the need is not known.

    Measured: a worker that embeds a shard uses 2.6 times the bytes of the shard's vectors; a worker that votes uses 4
    times the bytes of the candidates' vectors.
    """
    if not registry.find("embedders", recipe.embedder.name, key="embedder.name").takes_schema:
        return None  # other embedders would have to load a model to know the length of their vectors
    row = 4 * new_embedder(recipe).dimension
    records = recipe.data.expected_records
    shard = row * min(SHARD_ROWS, records or SHARD_ROWS)
    worker = max(2.6 * shard, 4.0 * row * max(recipe.evolution.populations()))
    if worker < LARGE:
        return None
    disk = f", and {_gigabytes(row * (records or 0))} of the run directory's disk for data.expected_records"
    advice = " (embedder.hashed makes those of columns of many values shorter)" if _can_hash(recipe) else ""
    said = f"long vectors: {row // 4} numbers a record take about {_gigabytes(worker)} of a worker's memory"
    return f"{said}{disk if records else ''}{advice}"


def _can_hash(recipe: Recipe) -> bool:
    return "hashed" in recipe.embedder.options and recipe.embedder.options["hashed"] is None


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
