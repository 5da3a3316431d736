"""The notebooks of docs/notebooks are executed as they stand there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import apache_beam as beam
import pytest
from apache_beam import pipeline
from apache_beam.testing.util import assert_that, equal_to

from pe_beam.transforms.notebooks import Renaming
from pe_beam.transforms.plain import PlainFn  # noqa: F401  (mends Beam)

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs/site/notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_to_its_end(notebooks: ModuleType, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = list(notebooks.execute(path))
    committed = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(found) == len(committed) >= 4
    for cell, (_, outputs) in zip(committed, found, strict=True):
        assert [kinds(output) for output in cell["outputs"]] == [kinds(output) for output in outputs]
    list(notebooks.execute(path))  # again where it was executed before, as after a restart of the kernel


def kinds(output: dict[str, object]) -> object:
    data = output.get("data")
    return sorted(data) if isinstance(data, dict) else output["output_type"]


def test_a_cell_that_raises_ends_it(notebooks: ModuleType, tmp_path: Path) -> None:
    source = [["x = 1"], ["assert x == 2"], ["x = 3"]]
    cells = [{"cell_type": "code", "source": lines} for lines in source]
    path = tmp_path / "wrong.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    with pytest.raises(AssertionError):
        list(notebooks.execute(path))


def test_beam_that_cannot_rename_steps_in_notebooks_builds_graphs_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As beside pandas 3, where Beam's support of notebooks cannot be imported."""
    tried = []

    def rename(*_: object) -> None:
        tried.append(1)
        raise AttributeError("type object 'DataFrame' has no attribute 'first'")

    assert isinstance(pipeline.alter_label_if_ipython, Renaming)
    monkeypatch.setattr(pipeline, "alter_label_if_ipython", Renaming(rename))
    with beam.Pipeline() as made:
        found = made | "Numbers" >> beam.Create([1, 2]) | "Twice" >> beam.Map(lambda number: 2 * number)
        assert_that(found, equal_to([2, 4]))
    assert tried == [1]
