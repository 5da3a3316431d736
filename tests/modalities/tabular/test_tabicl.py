"""TabICL in `evaluate`: a tiny model of the package's own classes is trained, saved, and loaded by our code."""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from pe_beam.contracts.metric import Comparison
from pe_beam.driver.loop import evolve
from pe_beam.errors import MissingExtraError
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.modalities.tabular import classifiers
from pe_beam.recipe.loading import parse_recipe

pytestmark = pytest.mark.xdist_group("tabicl")  # one trained model serves all tests
SCHEMA: dict[str, Any] = {
    "columns": {
        "a": {"type": "float", "min": -4, "max": 4},
        "b": {"type": "float", "min": -4, "max": 4, "missing": True},
    }
}
CONFIG: dict[str, Any] = {
    "max_classes": 2,
    "embed_dim": 16,
    "col_num_blocks": 1,
    "col_nhead": 2,
    "col_num_inds": 8,
    "row_num_blocks": 1,
    "row_nhead": 2,
    "row_num_cls": 2,
    "icl_num_blocks": 2,
    "icl_nhead": 2,
}


def rows(count: int, seed: int) -> pa.Table:
    """The label is which side of a line a row lies on; some values are missing."""
    rng = np.random.default_rng(seed)
    a, b = np.clip(rng.normal(0, 1, (2, count)), -4, 4)
    return pa.table({"a": a, "b": pa.array(b, mask=rng.random(count) < 0.05), "label": np.where(a > b, "p", "q")})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny TabICL that has seen some hundreds of tables whose label is a line's side, in the package's own format."""
    import torch
    from tabicl._model.tabicl import TabICL

    torch.manual_seed(0)
    model = TabICL(**CONFIG).train()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(150):
        x = torch.randn(16, 48, 2)
        line = torch.randn(16, 2, 1)
        y = ((x @ line)[:, :, 0] > 0).float()
        logits = model(x, y[:, :32])
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 2), y[:, 32:].reshape(-1).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("tabicl") / "tiny.ckpt"
    torch.save({"config": CONFIG, "state_dict": model.state_dict()}, path)
    return path


def compared(samples: pa.Table, held_out: pa.Table, schema: dict[str, Any] = SCHEMA) -> Comparison:
    return Comparison(
        iteration=1,
        samples=samples,
        held_out=held_out,
        training=None,
        labels=["never seen", "p", "q"],
        recipe={"data": {"schema": schema}},
        seed=0,
    )


@pytest.mark.reported
def test_evaluate_asks_a_checkpoint_that_is_named(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv(classifiers.CHECKPOINT, str(checkpoint))
    for name, seed in (("train", 1), ("test", 2)):
        pa.csv.write_csv(rows(300, seed), tmp_path / f"{name}.csv")
    recipe = {
        "name": "sides",
        "data": {
            "source": "csv",
            "path": str(tmp_path / "train.csv"),
            "holdout": str(tmp_path / "test.csv"),
            "labels": ["p", "q"],
            "schema": SCHEMA,
        },
        "modality": "tabular",
        "generator": {"name": "tabular"},
        "embedder": {"name": "tabular"},
        "evolution": {"iterations": 1, "samples": 60},
        "privacy": {"epsilon": 1, "delta": 1e-5},
    }
    evolve(parse_recipe(recipe), tmp_path / "run")
    found = evaluate(tmp_path / "run")
    assert found["ceiling"]["metrics"]["tabicl_accuracy"] > 0.85
    assert found["ceiling"]["metrics"]["tabicl_auc"] > 0.9
    assert set(found["metrics"]) >= {"tabicl_accuracy", "tabicl_macro_f1", "tabicl_auc"}
    assert found["metrics"]["tabicl_auc"] < found["ceiling"]["metrics"]["tabicl_auc"]
    assert any(note.startswith("TabICL: trained and tested on") for note in found["notes"])
    assert "tabicl accuracy" in (tmp_path / "run/private/evaluation/evaluation.html").read_text()
    assert str(checkpoint) not in (tmp_path / "run/private/evaluation/evaluation.json").read_text()


def test_rows_are_bounded_and_the_same_each_time(checkpoint, monkeypatch):
    monkeypatch.setenv(classifiers.CHECKPOINT, str(checkpoint))
    monkeypatch.setattr(classifiers, "TABICL_CELLS", 200)
    comparison = compared(rows(3000, 1), rows(3000, 2))
    found = classifiers.tabicl(comparison)
    assert found.notes == ["TabICL: trained and tested on 100 rows at most"]
    assert found == classifiers.tabicl(comparison)
    assert (found.figures["tabicl_accuracy"] * 100) % 1 == pytest.approx(0, abs=1e-9)


def test_without_the_package_the_metric_says_which_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tabicl", None)
    with pytest.raises(MissingExtraError, match=r"pe_beam\[tabicl\]"):
        classifiers.tabicl(compared(rows(20, 1), rows(20, 2)))


def test_without_weights_there_is_a_note_at_once_and_no_download(monkeypatch, tmp_path):
    import socket

    import huggingface_hub.constants

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.delenv(classifiers.CHECKPOINT, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refused)
    began = time.monotonic()
    found = classifiers.tabicl(compared(rows(20, 1), rows(20, 2)))
    assert not found.figures and "not on this machine" in found.notes[0] and classifiers.CHECKPOINT in found.notes[0]
    assert time.monotonic() - began < 120  # with the imports, on a busy machine


@pytest.mark.parametrize(
    ("content", "said"), [(None, "names no file"), (b"no checkpoint", "cannot be used"), (b"", "cannot be used")]
)
def test_a_checkpoint_that_is_none_is_a_note(monkeypatch, tmp_path, content, said):
    path = tmp_path / "wrong.ckpt"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(classifiers.CHECKPOINT, str(path))
    found = classifiers.tabicl(compared(rows(20, 1), rows(20, 2)))
    assert not found.figures and said in found.notes[0] and "wrong.ckpt" not in found.notes[0]


def test_tables_that_it_is_not_for_are_left_out(checkpoint, monkeypatch):
    monkeypatch.setenv(classifiers.CHECKPOINT, str(checkpoint))
    wide = copy.deepcopy(SCHEMA)
    wide["columns"] |= {f"c{i}": {"type": "boolean"} for i in range(600)}
    found = classifiers.tabicl(compared(rows(20, 1), rows(20, 2), wide))
    assert found.notes == ["TabICL is left out: more than 500 columns"]
    alone = rows(20, 1).set_column(2, "label", pa.array(["p"] * 20))
    assert not classifiers.tabicl(compared(alone, rows(20, 2))).figures
    constant = rows(20, 1).set_column(0, "a", pa.array([0.0] * 20)).set_column(1, "b", pa.nulls(20, pa.float64()))
    assert set(classifiers.tabicl(compared(constant, rows(20, 2))).notes)
