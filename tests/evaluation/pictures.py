"""Files of small pictures of three labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.metric import Comparison, Measured
from pe_beam.modalities.image.codec import encode_png

LABELS = ["0", "1", "2"]
UNTRAINED = "pe_beam.modalities.image.metrics.classifiers.small_cnn"
"""The metric that `untrained` stands in for."""


def untrained(comparison: Comparison) -> Measured:
    """What a network that learns nothing would say."""
    return Measured(figures={"cnn_accuracy": 0.5})


def pictures(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    images = rng.integers(0, 120, (rows, 8, 8)) + labels[:, None, None] * 45
    encoded = [encode_png(image.astype(np.uint8)) for image in images]
    return pa.table({"image": encoded, "label": [LABELS[x] for x in labels]})


def write_files(folder: Path, sizes: tuple[int, ...], seed: int) -> None:
    folder.mkdir(parents=True)
    for i, size in enumerate(sizes):
        pq.write_table(pictures(size, seed + i), folder / f"part-{i}.parquet")
