"""Parts of one's own that do not keep their contract: said in one sentence, and before any budget is spent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pe_beam import contracts, registry
from pe_beam.contracts.embedder import checked_vectors
from pe_beam.contracts.generator import checked_rows
from pe_beam.driver.loop import evolve
from pe_beam.errors import InputError, MissingExtraError, RecipeError, StageError
from pe_beam.modalities.image.pixels import Pixels
from pe_beam.recipe.loading import parse_recipe

MODULES = {
    "own_good": "from pe_beam.modalities.image.pixels import Pixels as Good\n",
    "own_typo": "class X(:\n",
    "own_name": "from pe_beam.contracts import Nonsense\n",
    "own_gpu": "raise RuntimeError('no GPU')\n",
    "own_need": "import nosuchpackage\n",
    "own_wrong": """from pe_beam import contracts
class No: pass
class Half(contracts.Embedder):
    Options = contracts.Options
class Bare(Half):
    Options = None
    def __init__(self, options): pass
    def embed(self, records): pass
""",
}
POINTS = """[pe_beam.embedders]
typo = own_typo:X
name = own_name:X
gpu = own_gpu:X
need = own_need:X
lost = own_good:Lost
no = own_wrong:No
half = own_wrong:Half
bare = own_wrong:Bare
pixels = own_good:Good
"""


@pytest.fixture
def own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose parts are broken, installed beside ours."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    about = tmp_path / "own-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("typo", r"cannot be imported from own_typo:X \(SyntaxError: invalid syntax \(own_typo.py, line 1\)\)"),
        ("name", r"cannot be imported from own_name:X \(ImportError: cannot import name 'Nonsense' from "),
        ("gpu", r"cannot be imported from own_gpu:X \(RuntimeError: no GPU\)"),
        ("lost", r"cannot be imported from own_good:Lost \(AttributeError: .* has no attribute 'Lost'\)"),
        ("no", "is No, which is no subclass of pe_beam.contracts.Embedder"),
        ("half", "is Half, which lacks __init__, embed"),
        ("bare", "is Bare, whose Options is no subclass of pe_beam.contracts.Options"),
    ],
)
def test_a_part_that_is_none_is_a_fault_of_the_recipe(
    own_parts: None, small: dict[str, Any], name: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=f"^embedder.name: '{name}' {said}"):
        parse_recipe(small | {"embedder": {"name": name}})


def test_a_package_that_is_missing_is_named(own_parts: None, small: dict[str, Any]) -> None:
    with pytest.raises(MissingExtraError, match=r"^embedder.name: 'need' needs the package 'nosuchpackage', which is"):
        parse_recipe(small | {"embedder": {"name": "need"}})


def test_a_name_that_two_packages_have_taken_is_refused(own_parts: None, small: dict[str, Any]) -> None:
    """Ours was replaced without a word, or theirs: the order of sys.path decided."""
    with pytest.raises(
        RecipeError, match=r"^embedder.name: several installed packages call a part 'pixels' \(own_good"
    ):
        parse_recipe(small)


def test_other_parts_do_as_before_beside_broken_ones(own_parts: None, small: dict[str, Any]) -> None:
    assert "text-render" in registry.names_for("generators", "image")
    with pytest.raises(RecipeError, match=r"'pixles' is not known; did you mean 'pixels'\? \(allowed: .*clip"):
        parse_recipe(small | {"embedder": {"name": "pixles"}})


def test_a_package_that_is_installed_while_a_notebook_runs_is_found(own_parts: None, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'later' is not known"):
        registry.find("embedders", "later", key="embedder.name")
    (tmp_path / "own-1.0.dist-info/entry_points.txt").write_text("[pe_beam.embedders]\nlater = own_good:Good\n")
    assert registry.find("embedders", "later", key="embedder.name") is Pixels


@pytest.mark.parametrize(
    ("embedding", "said"),
    [
        (np.zeros((3, 2), np.float32), "ndarray came back where contracts.Embedding is wanted"),
        (contracts.Embedding(np.zeros((3, 2))), "vectors are float64"),
        (contracts.Embedding([[0.0] * 2] * 3), "vectors are list"),  # type: ignore[arg-type]
        (contracts.Embedding(np.zeros((3, 1), np.float32)), "vectors are of length 1; dimension says 2"),
        (contracts.Embedding(np.zeros(2, np.float32)), "vectors are an array of 1 dimensions"),
        (contracts.Embedding(np.zeros((1, 2), np.float32)), "not as many vectors as records"),
    ],
)
def test_vectors_of_another_shape_are_refused_and_not_spread_over_records(embedding: Any, said: str) -> None:
    with pytest.raises(StageError, match=f"^embedder: .*{said}"):
        checked_vectors(embedding, 3, 2)
    assert checked_vectors(contracts.Embedding(np.zeros((3, 2), np.float32)), 3, 2).shape == (3, 2)


@pytest.mark.parametrize("cut", [np.s_[:1], np.s_[:, :1]])
def test_a_wrong_embedder_stops_before_anything_is_spent(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: Any
) -> None:
    """NumPy gave all records the vector of the first, or one number in all places; votes were paid for and failed."""
    real = Pixels.embed

    def embed(self: Pixels, records: pa.Table) -> contracts.Embedding:
        return contracts.Embedding(real(self, records).vectors[cut])

    monkeypatch.setattr(Pixels, "embed", embed)
    with pytest.raises(StageError, match=r"^embedder: ") as told:
        evolve(parse_recipe(small), tmp_path / "run")
    assert not any(sign.isdigit() and sign not in "164" for sign in str(told.value))  # no number of records
    assert not (tmp_path / "run/ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([{"state": None, "text": "a"}], "list came back where a pyarrow.Table is wanted"),
        (pa.table({"text": ["a"]}), "no column 'state' came back; wanted: state, text"),
        (pa.table({"state": ["{}"]}), "no column 'text' came back"),
        (pa.table({"state": [{"a": 1}], "text": ["a"]}), r"column 'state' is struct<a: int64>; text \(JSON\) or null"),
        (pa.table({"state": ["{}"] * 2, "text": ["a"] * 2}), "2 rows came back where 1 were asked for"),
    ],
)
def test_candidates_of_another_form_are_refused(made: Any, said: str) -> None:
    with pytest.raises(StageError, match=f"^generator: {said}"):
        checked_rows(made, 1, ["text"])
    assert checked_rows(pa.table({"state": [None], "text": ["a"]}), 1, ["text"]).num_rows == 1


@pytest.mark.parametrize("short", ["labels", "clients", "rows"])
def test_a_batch_of_a_source_has_one_of_all_for_each_row(short: str) -> None:
    """Of a source with a label too few, records were lost without a word, or had the labels of others."""
    told: dict[str, Any] = {"labels": ["a", "b"], "clients": [None, None], "rows": ["x:0", "x:1"]}
    payload = pa.table({"text": ["one", "two"]})
    contracts.SourceBatch(payload, **told)
    with pytest.raises(StageError, match=r"^data\.source: a batch wants a label, a client and a locator for each row"):
        contracts.SourceBatch(payload, **told | {short: told[short][:1]})


def test_a_store_that_cannot_be_imported_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pe_beam.storage import open_store

    about = tmp_path / "own-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pe_beam.stores]\nmine = pe_beam.storage:NoStore\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"^--run-dir mine://x: cannot be imported from pe_beam.storage:NoStore"):
        open_store("mine://x")
