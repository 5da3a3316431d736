"""Reads manifests. An iteration exists when its manifest exists."""

from __future__ import annotations

from typing import Any

from pe_beam.engine.run import Run
from pe_beam.errors import InputError, damaged
from pe_beam.storage.json_file import parse_json


def read_manifest(run: Run, iteration: int) -> dict[str, Any] | None:
    """Returns an iteration's manifest; None: the iteration does not exist yet. Raises InputError if it is damaged."""
    name = run.layout.public(iteration, "manifest.json")
    found = run.store.find_committed(name)
    if found is None:
        return None
    manifest = parse_json(found, name, dict)
    if not all(isinstance(manifest.get(key), dict) for key in ("files", "candidates")):
        raise damaged(name)
    return manifest


def manifest_of(run: Run, iteration: int) -> dict[str, Any]:
    """Returns the manifest of an iteration. Raises InputError if the iteration does not exist."""
    manifest = read_manifest(run, iteration)
    if manifest is None:
        raise InputError(f"iteration {iteration} does not exist yet; iterations are made in order")
    return manifest


def candidate_count(run: Run, iteration: int) -> int:
    """Returns the number of rows of a population, over all labels. Raises InputError if it does not exist."""
    return sum(manifest_of(run, iteration)["candidates"].values())
