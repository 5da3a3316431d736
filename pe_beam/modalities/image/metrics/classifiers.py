"""Accuracy of networks that are trained on samples and tested on held-out pictures. All of it is private."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image
from threadpoolctl import threadpool_limits

from pe_beam.contracts.metric import Comparison, Measured
from pe_beam.contracts.record import Fault
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.metrics.classifiers import TEST_ROWS, TRAIN_ROWS
from pe_beam.modalities.image.codec import decode_image
from pe_beam.modalities.image.metrics.options import WRN, network_shape
from pe_beam.subsamples import chosen_rows

SIDE = 32
"""Pixels a side that a network sees. If all held-out pictures have one size that is not larger, it sees that size."""
_SEEN = 20_000  # pictures that the small network sees in all its epochs; bounds its time
_MOST_EPOCHS = 20


def small_cnn(comparison: Comparison) -> Measured:
    """Returns the accuracy on held-out pictures of a small convolutional network that learns only from samples.

    Raises:
      MissingExtraError: torch is not installed.
    """
    if len(comparison.labels or []) < 2:
        return Measured(figures={})
    try:
        from pe_beam.modalities.image.metrics.networks import small_network
        from pe_beam.modalities.image.metrics.training import Schedule, accuracy, trained
    except ImportError:
        raise MissingExtraError("cnn_accuracy needs torch; install pe_beam[image]") from None
    found = _sides(comparison, train=TRAIN_ROWS, test=TEST_ROWS)
    if found is None:
        return Measured(figures={}, notes=[_one_label("cnn_accuracy")])
    learnt, asked, classes = found
    count = len(learnt.codes)
    epochs = min(_MOST_EPOCHS, max(2, _SEEN // count))
    schedule = Schedule(
        epochs=epochs,
        batch=min(64, max(8, count // 8)),
        rate=lambda epoch: 1e-3 * (1 + math.cos(math.pi * epoch / epochs)),
    )
    with threadpool_limits(1):  # the same figure on any number of cores
        network = trained(
            lambda: small_network(learnt.pictures.shape[1], classes, max(learnt.pictures.shape[2:])),
            learnt.pictures,
            learnt.codes,
            schedule,
            seed=comparison.seed,
        )
        return Measured(figures={"cnn_accuracy": accuracy(network, asked.pictures, asked.codes)})


def wide_resnet(comparison: Comparison) -> Measured:
    """Returns the accuracy of the wide residual network of `evaluate --set wrn=`; nothing without that option.

    It is trained as in Sim-PE (arXiv 2502.05505) and its library: Adam, 50 epochs by default, batches of 256, learning
    rate 0.01 times 0.2 after every 20 epochs, dropout 0.3, weights averaged by 0.9999, pixels from -1 to 1.
    DPImageBench reports the best epoch. This is the last epoch: a choice by the test pictures would give too high an
    accuracy.

    Raises:
      InputError: options are wrong, or a device has no room for the network.
      MissingExtraError: torch is not installed.
    """
    shape = network_shape(comparison.options)
    if shape is None:
        return Measured(figures={})
    depth, width, epochs = shape
    name = f"wrn_{depth}_{width}_accuracy"
    if len(comparison.labels or []) < 2:
        return Measured(figures={}, notes=[f"{name}: left out; there is one label, or none"])
    try:
        import torch

        from pe_beam.modalities.exact import make_exact
        from pe_beam.modalities.image.metrics.networks import WideResNet
        from pe_beam.modalities.image.metrics.training import Schedule, accuracy, trained
    except ImportError:
        raise MissingExtraError(f"{name} needs torch; install pe_beam[image]") from None
    found = _sides(comparison, train=comparison.samples.num_rows, test=comparison.held_out.num_rows)
    if found is None:
        return Measured(figures={}, notes=[_one_label(name)])
    learnt, asked, classes = found
    schedule = Schedule(epochs=epochs, batch=256, rate=lambda epoch: 0.01 * 0.2 ** (epoch // 20), average=0.9999)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    make_exact(device)
    try:
        network = trained(
            lambda: WideResNet(learnt.pictures.shape[1], classes, depth=depth, width=width, dropout=0.3),
            learnt.pictures,
            learnt.codes,
            schedule,
            seed=comparison.seed,
            device=device,
        )
        figure = accuracy(network, asked.pictures, asked.codes, device=device)
    except torch.OutOfMemoryError:
        raise InputError(
            f"--set {WRN}: {device} has no room for WRN-{depth}-{width} with batches of 256; a smaller DEPTH-WIDTH is "
            "wanted"
        ) from None
    note = f"{name}: trained on {len(learnt.codes):,} pictures, {epochs} epochs, and tested on {len(asked.codes):,}"
    return Measured(figures={name: figure}, notes=[note])


def _one_label(name: str) -> str:
    return f"{name}: left out; the samples have one label only"


@dataclass(frozen=True)
class Labelled:
    """Pictures as networks take them: uint8 (n, c, h, w), and the numbers of their labels, int64 (n,)."""

    pictures: np.ndarray
    codes: np.ndarray


def _sides(comparison: Comparison, *, train: int, test: int) -> tuple[Labelled, Labelled, int] | None:
    """Returns training and test pictures of one size, and the number of classes.

    None: the training pictures have only one label, or there are no test pictures. A ceiling is trained on no more
    pictures than there are samples. Pictures are gray if all held-out pictures are.
    """
    labels = {label: code for code, label in enumerate(comparison.labels or [])}
    most = min(train, comparison.sample_count or train)
    chosen = [
        table.take(pa.array(chosen_rows(table.num_rows, rows, purpose)))
        for table, rows, purpose in (
            (comparison.samples, most, "classifier/train"),
            (comparison.held_out, test, "classifier/test"),
        )
    ]
    codes = [np.array([labels[label] for label in table["label"].to_pylist()], dtype=np.int64) for table in chosen]
    size, mode = _common(chosen[1])
    learnt, asked = (_labelled(table, own, size, mode) for table, own in zip(chosen, codes, strict=True))
    if len(np.unique(learnt.codes)) < 2 or not len(asked.codes):
        return None
    return learnt, asked, len(labels)


def _common(held_out: pa.Table) -> tuple[tuple[int, int], str]:
    """Returns the (width, height) and mode in which networks see pictures.

    They follow from the held-out pictures, which are the same for all populations.
    """
    sizes, modes = set(), set()
    for data in held_out["image"].to_pylist():
        image = decode_image(data, mode=None)
        if not isinstance(image, Fault):
            sizes.add(image.size)
            modes.add(image.mode)
    own = next(iter(sizes)) if len(sizes) == 1 else (SIDE, SIDE)
    return own if max(own) <= SIDE else (SIDE, SIDE), "L" if modes == {"L"} else "RGB"


def _labelled(table: pa.Table, codes: np.ndarray, size: tuple[int, int], mode: str) -> Labelled:
    """Decodes one picture at a time, so that memory is bounded. Leaves out pictures that cannot be read."""
    shape = (table.num_rows, 1 if mode == "L" else 3, size[1], size[0])
    found, rows = np.zeros(shape, dtype=np.uint8), []
    for row, data in enumerate(table["image"].to_pylist()):
        image = decode_image(data, mode=mode)
        if not isinstance(image, Fault):
            pixels = np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))
            found[row] = pixels if mode == "L" else pixels.transpose(2, 0, 1)
            rows.append(row)
    return Labelled(found[rows], codes[rows])
