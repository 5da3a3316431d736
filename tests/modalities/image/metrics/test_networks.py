"""Networks that learn from samples: they learn, they are the same again, and odd pictures do not stop them."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from pe_beam.errors import MissingExtraError
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.metrics import classifiers
from pe_beam.modalities.image.metrics.classifiers import small_cnn, wide_resnet
from pe_beam.modalities.image.metrics.networks import Dropout, WideResNet, begin
from tests.modalities.image.metrics.pictures import LABELS, comparison, table

TINY = {"wrn": "10-1", "wrn_epochs": "12"}


def shuffled(own: pa.Table) -> pa.Table:
    labels = np.random.default_rng(0).permutation(np.array(own["label"].to_pylist()))
    return own.set_column(0, "label", pa.array(labels.tolist()))


@pytest.mark.parametrize("side", [8, 24])
def test_the_small_network_learns_what_there_is_to_learn(side: int) -> None:
    samples, held_out = table(150, 0, side=side), table(90, 1, side=side)
    good = small_cnn(comparison(samples, held_out)).figures["cnn_accuracy"]
    chance = small_cnn(comparison(shuffled(samples), held_out)).figures["cnn_accuracy"]
    assert good > 0.95 and chance < 0.6


def test_figures_follow_from_the_seed_alone() -> None:
    told = comparison(table(60, 0), table(90, 1), options=TINY)
    before = torch.get_rng_state()
    first = small_cnn(told).figures | wide_resnet(told).figures
    assert torch.equal(before, torch.get_rng_state()), "another thread may use torch's common stream"
    torch.manual_seed(99)
    assert small_cnn(told).figures | wide_resnet(told).figures == first


def test_the_wide_network_has_the_published_number_of_weights() -> None:
    """36.5 million for WRN-28-10 and 8.9 million for WRN-40-4 (Zagoruyko and Komodakis 2016, tables 4 and 5)."""
    with torch.device("meta"):
        counts = {
            shape: sum(weights.numel() for weights in WideResNet(3, 10, depth=shape[0], width=shape[1]).parameters())
            for shape in ((28, 10), (40, 4), (16, 8))
        }
    assert {shape: round(count / 1e5) / 10 for shape, count in counts.items()} == {
        (28, 10): 36.5,
        (40, 4): 8.9,
        (16, 8): 11.0,
    }


def test_the_wide_network_learns() -> None:
    told = comparison(table(240, 0), table(90, 1), options=TINY | {"wrn_epochs": "25"})
    found = wide_resnet(told)
    assert found.figures["wrn_10_1_accuracy"] > 0.8
    assert found.notes == ["wrn_10_1_accuracy: trained on 240 pictures, 25 epochs, and tested on 90"]
    assert not wide_resnet(comparison(table(40, 0), table(30, 1))).figures, "it was not asked for"


def test_dropout_scales_and_draws_from_its_own_stream() -> None:
    with torch.device("meta"):
        network = WideResNet(3, 2, depth=10, width=1, dropout=0.3)
    draws = torch.Generator().manual_seed(0)
    begin(network, draws)
    drop = next(module for module in network.modules() if isinstance(module, Dropout))
    assert drop.draws is draws
    values = torch.ones(100_000)
    kept = drop(values)
    assert sorted(kept.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(drop.eval()(values), values)


def test_one_label_or_none() -> None:
    single = table(20, 0, labels=("b",))
    for metric, name in ((small_cnn, "cnn_accuracy"), (wide_resnet, "wrn_10_1_accuracy")):
        found = metric(comparison(single, table(30, 1), options=TINY))
        assert not found.figures and found.notes == [f"{name}: left out; the samples have one label only"]
    bare = single.set_column(0, "label", pa.nulls(20, pa.string()))
    assert not small_cnn(comparison(bare, bare, labels=None)).figures
    assert "left out" in wide_resnet(comparison(bare, bare, labels=None, options=TINY)).notes[0]


def test_labels_that_samples_or_held_out_pictures_lack() -> None:
    two = table(40, 0, labels=LABELS[:2])
    assert small_cnn(comparison(two, table(60, 1, labels=("c",)))).figures["cnn_accuracy"] == 0
    assert small_cnn(comparison(table(60, 0), two)).figures["cnn_accuracy"] > 0.4


@pytest.mark.parametrize("side", [1, 2, 3])
def test_tiny_pictures_and_few_of_them(side: int) -> None:
    for rows in (2, 3, 9):
        told = comparison(table(rows, 0, side=side), table(4, 1, side=side), options=TINY | {"wrn_epochs": "1"})
        for figures in (small_cnn(told).figures, wide_resnet(told).figures):
            assert all(0 <= value <= 1 for value in figures.values()) and figures


def test_sizes_modes_and_files_of_every_kind() -> None:
    odd = [np.zeros((3, 70), np.uint8), np.full((50, 41, 3), 200, np.uint8), np.zeros((32, 32), np.uint8)]
    files = [*(encode_png(one) for one in odd), b"no picture"]
    mixed = pa.table({"label": ["a", "b", "a", "b"], "image": pa.array(files, pa.binary())})
    assert classifiers._common(mixed) == ((32, 32), "RGB")
    assert classifiers._common(table(4, 0, side=28, gray=True)) == ((28, 28), "L")
    assert classifiers._common(table(4, 0, side=33)) == ((32, 32), "RGB")
    assert classifiers._common(mixed.slice(3)) == ((32, 32), "RGB")
    assert 0 <= small_cnn(comparison(mixed, mixed)).figures["cnn_accuracy"] <= 1
    assert small_cnn(comparison(table(30, 0), mixed)).figures  # samples of another size than held-out ones
    assert not small_cnn(comparison(table(30, 0), mixed.slice(3))).figures  # nothing that can be read to test on


def test_a_ceiling_learns_from_no_more_than_samples_do() -> None:
    told = comparison(table(90, 0), table(30, 1), iteration=None, sample_count=40)
    found = classifiers._sides(told, train=5_000, test=5_000)
    assert found is not None and len(found[0].codes) == 40 and len(found[1].codes) == 30


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pe_beam.modalities.image.metrics.networks", None)
    told = comparison(table(30, 0), table(30, 1), options=TINY)
    for metric, name in ((small_cnn, "cnn_accuracy"), (wide_resnet, "wrn_10_1_accuracy")):
        with pytest.raises(MissingExtraError, match=rf"{name} needs torch; install pe_beam\[image\]"):
            metric(told)
