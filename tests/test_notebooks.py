"""The notebooks of docs/notebooks are executed as they stand there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

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
