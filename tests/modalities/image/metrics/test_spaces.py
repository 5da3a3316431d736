"""Figures in other spaces: equal to the libraries' on the same features, with floors and ceilings, and on bad days."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from prdc import compute_prdc

from pe_beam.metrics.distances import frechet_distance, frechet_of_vectors, kernel_subsets
from pe_beam.metrics.moments import Moments
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.metrics import spaces
from pe_beam.modalities.image.metrics.spaces import LABEL_ROWS, embedded, other_spaces
from tests.modalities.image.metrics.pictures import comparison, table

pytestmark = pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # clean-fid, of SciPy

PIXELS: dict[str, Any] = {"name": "pixels", "size": 4, "mode": "rgb"}  # 48 features


def asked(section: dict[str, Any] = PIXELS) -> dict[str, str]:
    return {"spaces": json.dumps({"tiny": section})}


def measured(samples: pa.Table, held_out: pa.Table, section: dict[str, Any] = PIXELS, **more: Any) -> dict[str, float]:
    found = other_spaces(comparison(samples, held_out, options=asked(section), **more)).figures
    assert all(name.endswith("_tiny") and np.isfinite(value) for name, value in found.items())
    return {name.removesuffix("_tiny"): value for name, value in found.items()}


def cleanfid(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    from cleanfid.fid import frechet_distance as cleanfid_frechet  # a second, which every worker of the tests would pay

    return float(cleanfid_frechet(a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)))


@pytest.mark.parametrize("rows", [(240, 240), (300, 240)])
def test_figures_equal_the_libraries_on_the_same_features(rows: tuple[int, int]) -> None:
    from torch_fidelity import metric_kid  # seconds, for it loads torchvision

    samples, held_out = table(rows[0], 0, shift=10), table(rows[1], 1)
    found = measured(samples, held_out)
    a, b = (embedded("tiny", PIXELS, own).vectors for own in (samples, held_out))
    assert found["fid"] == pytest.approx(cleanfid(a, b), abs=1e-6)
    library = {"kid_degree": 3, "kid_gamma": None, "kid_coef0": 1, "kid_kernel": "poly", "kid_kernel_rbf_sigma": 10}
    subsets = [
        metric_kid.kernel_mmd(a[x].astype(np.float64), b[y].astype(np.float64), **library)
        for x, y in kernel_subsets(len(a), len(b))
    ]
    assert found["kid"] == pytest.approx(np.mean(subsets), abs=1e-6)
    assert found["kid_spread"] == pytest.approx(np.std(subsets), abs=1e-6)
    for k, names in ((3, ("precision", "recall")), (5, ("density", "coverage"))):
        theirs = compute_prdc(real_features=b.astype(np.float64), fake_features=a.astype(np.float64), nearest_k=k)
        assert [found[name] for name in names] == pytest.approx([theirs[name] for name in names], abs=1e-6)


def test_kid_equals_torch_fidelity_as_its_users_call_it() -> None:
    from torch_fidelity import metric_kid

    samples, held_out = table(150, 0, shift=10), table(150, 1)
    a, b = (torch.from_numpy(embedded("tiny", PIXELS, own).vectors).double() for own in (samples, held_out))
    theirs = metric_kid.kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=150, verbose=False)
    assert measured(samples, held_out)["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)


@pytest.mark.parametrize("rows", [(30, 45), (50, 30), (47, 90), (48, 49)])
def test_frechet_distance_of_fewer_vectors_than_dimensions(rows: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(count, 48)).astype(np.float32) for count in rows)
    assert frechet_of_vectors(a, b) == pytest.approx(frechet_distance(Moments.of(a), Moments.of(b)), abs=1e-6)
    assert frechet_of_vectors(a, a) == pytest.approx(0, abs=1e-9)


def test_class_fid_is_the_mean_over_labels_that_have_enough_pictures() -> None:
    section = {"name": "pixels", "size": 4, "mode": "gray"}  # 16 features
    few = LABEL_ROWS - 1
    samples = pa.concat_tables([table(180, 0, shift=20), table(few, 2, labels=("d",))])
    held_out = pa.concat_tables([table(210, 1), table(300, 3, labels=("d",))])
    told = comparison(samples, held_out, options=asked(section), labels=("a", "b", "c", "d"))
    found = other_spaces(told)
    each = []
    for label in "abc":
        pair = [
            embedded("tiny", section, own.filter(pa.compute.equal(own["label"], label))) for own in (samples, held_out)
        ]
        each.append(cleanfid(pair[0].vectors, pair[1].vectors))
    assert found.figures["class_fid_tiny"] == pytest.approx(np.mean(each), abs=1e-6)
    assert any("class_fid_tiny: of 3 of 4 labels" in note for note in found.notes)
    assert any("published ones are of 10,000" in note for note in found.notes)
    assert "class_fid" not in measured(table(30, 0), table(300, 1), labels=("a", "b", "c"))


def test_the_same_pictures_reach_the_ceiling_and_others_do_not() -> None:
    same = measured(table(200, 0), table(200, 0))
    assert same["fid"] == pytest.approx(0, abs=1e-6) and same["kid"] <= 0
    assert [same[name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    alike, far = measured(table(200, 1), table(200, 0)), measured(table(200, 1, shift=60), table(200, 0))
    assert same["fid"] < alike["fid"] < far["fid"]
    assert alike["kid"] < far["kid"] and alike["coverage"] > far["coverage"]


def test_copies_are_told_from_pictures_that_are_only_alike() -> None:
    training, held_out = table(200, 0), table(150, 1)
    copies = measured(training.slice(0, 90), held_out, training=training)
    assert (copies["exact_duplicates"], copies["held_out_exact_duplicates"]) == (90, 0)
    assert copies["probability_closer"] == 1 and copies["share_closer_than_1_percent"] == 1
    fresh = measured(table(200, 2), held_out, training=training)
    assert fresh["exact_duplicates"] == 0
    assert 0.4 < fresh["probability_closer"] < 0.6 and fresh["share_closer_than_1_percent"] < 0.06
    told = comparison(training, held_out, training=training, options=asked())
    (chart,) = other_spaces(told).series
    assert chart.y["samples"][0] == 1 and chart.y["held-out"][0] == 0 and chart.y["held-out"][-1] == 1
    for more in ({"training": None}, {"training": training, "iteration": 0}):
        assert "exact_duplicates" not in measured(training, held_out, **more)


def test_a_ceiling_is_of_as_many_pictures_as_there_are_samples() -> None:
    held_out, training = table(60, 0), table(400, 1)
    ceiling = measured(training, held_out, iteration=None, sample_count=70)
    kept = embedded("tiny", PIXELS, training).some(70)
    assert len(kept.vectors) == len(kept.labels) == 70
    assert ceiling["fid"] == frechet_of_vectors(kept.vectors, embedded("tiny", PIXELS, held_out).vectors)


def test_fewer_pictures_than_neighbours_and_fewer_than_two() -> None:
    found = measured(table(3, 0), table(4, 1), training=table(1, 2))
    assert {"fid", "kid", "precision", "density", "exact_duplicates"} <= set(found)
    assert not measured(table(1, 0), table(4, 1))
    notes = other_spaces(comparison(table(1, 0), table(4, 1), options=asked())).notes
    assert "tiny: left out; it wants 2 pictures on each side" in notes


def test_without_labels_and_without_spaces() -> None:
    bare = table(60, 0).drop_columns("label").append_column("label", pa.nulls(60, pa.string()))
    assert "class_fid" not in measured(bare, bare, labels=None)
    nothing = other_spaces(comparison(bare, bare))
    assert not nothing.figures and not nothing.notes


def test_pictures_that_an_embedder_refuses_are_left_out_and_told() -> None:
    section = {"name": "pixels", "size": 8, "resize": False}
    odd = pa.table(
        {"label": ["a"] * 3, "image": pa.array([encode_png(np.zeros((9, 9), np.uint8)), b"x", b""], pa.binary())}
    )
    samples = pa.concat_tables([odd, table(40, 0)])
    found = other_spaces(comparison(samples, table(40, 1), options=asked(section)))
    assert found.figures["fid_tiny"] == measured(table(40, 0), table(40, 1), section)["fid"]
    (note,) = [note for note in found.notes if "left out" in note and "samples" in note]
    assert note.startswith("tiny: 3 samples pictures") and "another size" in note and "cannot be read" in note


def test_a_process_embeds_a_table_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces, "_FEATURES", type(spaces._FEATURES)())
    own, calls = spaces.space_embedder, []
    monkeypatch.setattr(spaces, "space_embedder", lambda *of: calls.append(of) or own(*of))
    measured(table(30, 0), table(30, 1))
    measured(table(30, 2), table(30, 1))
    assert len(calls) == 3
    first = table(30, 1)
    other = first.set_column(0, "label", pa.array(["b"] * 30))  # the same pictures, labelled otherwise
    measured(first, other)
    assert len(calls) == 4
    for seed in range(3, 14):
        embedded("tiny", PIXELS, table(2, seed))
    assert len(spaces._FEATURES) == spaces._KEPT
