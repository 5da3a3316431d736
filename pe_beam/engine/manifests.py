"""Manifests: an iteration exists when its manifest does."""

from __future__ import annotations

import json
from typing import Any

from pe_beam.engine.run import Run
from pe_beam.errors import InputError


def read_manifest(run: Run, iteration: int) -> dict[str, Any] | None:
    """An iteration's manifest; None: the iteration does not exist yet."""
    name = run.layout.public(iteration, "manifest.json")
    found = run.store.find_committed(name)
    return None if found is None else json.loads(found)


def manifest_of(run: Run, iteration: int) -> dict[str, Any]:
    """The manifest of an iteration that must exist; InputError if it does not."""
    manifest = read_manifest(run, iteration)
    if manifest is None:
        raise InputError(f"iteration {iteration} does not exist yet; iterations are made in order")
    return manifest


def candidate_count(run: Run, iteration: int) -> int:
    """Rows of a population that must exist, all labels together; InputError if it does not."""
    return sum(manifest_of(run, iteration)["candidates"].values())
