"""The browser of the report's tests, and a finished run that is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pe_beam.contracts.modality import Modality
from pe_beam.engine.layout import Layout
from pe_beam.recipe.identity import to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.watch.server import Serving, serving
from tests.report.releases import write_release
from tests.whole_runs import SMALL, Runs, copied


@pytest.fixture(scope="module")
def digits(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped half-way, so that its private files and its secret are still there."""
    return copied(runs.half(SMALL), tmp_path_factory.mktemp("watched") / "run")


def made_up(run_dir: Path, recipe: dict[str, Any], modality: Modality, payload: Any, **options: Any) -> None:
    """A run directory whose release was written without a run."""
    parsed = parse_recipe(recipe)
    run_dir.mkdir(parents=True)
    write_release(run_dir / Layout(parsed.private).release, recipe, modality, payload, **options)
    (run_dir / "recipe.yaml").write_text(to_yaml(parsed))


@pytest.fixture(scope="module")
def served(digits: Path) -> Iterator[Serving]:
    """The page of that run."""
    with serving(str(digits)) as found:
        yield found
