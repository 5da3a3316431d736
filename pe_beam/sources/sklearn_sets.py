"""Data sets that ship with scikit-learn, by name: pictures and tables."""

from __future__ import annotations

import functools
import hashlib
import io
import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pe_beam.contracts.source import BATCH_ROWS, Piece, Source, SourceBatch, SourceRequest, cut
from pe_beam.errors import DataError, RecipeError
from pe_beam.sources.roles import Roles

IMAGES = ("digits",)
TABLES = ("breast_cancer", "iris", "wine")
NAMES = (*IMAGES, *TABLES)


class SklearnSource(Source):
    """A data set, or the train or test side of scikit-learn's stratified split of it, in the order of that split.

    Digits are pictures in the column `image`. A table has its features by name, as float64. The column `label` is the
    digit, or the name of the class.
    """

    takes = frozenset({"columns", "never_stop"})
    cuts = True

    @classmethod
    def on_disk(cls, path: str) -> bool:
        """See Source: the path is a name."""
        return False

    @classmethod
    def open(cls, request: SourceRequest) -> SklearnSource:
        """See Source. Raises RecipeError if the name is not in `NAMES`."""
        if request.path not in NAMES:
            allowed = ", ".join(NAMES)
            raise RecipeError(f"{request.key}: {request.path!r} is not a known data set; allowed: {allowed}")
        if request.part is not None:
            _load(request.path, request.part)
        return cls(request.path, Roles.asked(request), part=request.part)

    def __init__(self, name: str, roles: Roles, *, part: tuple[str, float, int] | None) -> None:
        self._name = name
        self._roles = roles
        self._part = part

    def pieces(self) -> list[Piece]:
        """See Source."""
        values, targets = _load(self._name, self._part)
        self._roles.check(_table(self._name, values[:1], targets[:1]).schema)
        return [Piece(self._name, 0, a, b) for a, b in cut(len(targets))]

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        values, targets = self._rows(piece)
        for a in range(0, len(targets), BATCH_ROWS):
            table = _table(self._name, values[a : a + BATCH_ROWS], targets[a : a + BATCH_ROWS])
            rows = [f"{self._name}:{piece.start + a + i}" for i in range(table.num_rows)]
            yield self._roles.batch(table, rows, {})

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over shape, values and targets."""
        values, targets = self._rows(piece)
        total = hashlib.sha256(b"pe_beam sklearn 1\0" + struct.pack(f">{values.ndim}Q", *values.shape))
        total.update(values.tobytes())
        total.update(targets.astype(">i8").tobytes())
        return total.hexdigest()

    def _rows(self, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
        values, targets = _load(self._name, self._part)
        if piece.stop > len(targets):
            raise DataError(f"{self._roles.key}: the data set has changed since it was listed")
        return values[piece.start : piece.stop], targets[piece.start : piece.stop]


def _table(name: str, values: np.ndarray, targets: np.ndarray) -> pa.Table:
    if name in IMAGES:
        pngs = pa.array([encode_png(image) for image in values], pa.binary())
        return pa.table({"image": pngs, "label": pa.array([str(x) for x in targets.tolist()])})
    features, classes = _names(name)
    columns = {feature: pa.array(values[:, i]) for i, feature in enumerate(features)}
    return pa.table({**columns, "label": pa.array([classes[x] for x in targets.tolist()])})


@functools.lru_cache(maxsize=4)
def _names(name: str) -> tuple[list[str], list[str]]:
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    return [str(x) for x in data.feature_names], [str(x) for x in data.target_names]


def encode_png(image: np.ndarray) -> bytes:
    """Returns the PNG of an image, uint8 of shape (height, width) for gray or (height, width, 3) for RGB."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@functools.lru_cache(maxsize=4)
def _load(name: str, part: tuple[str, float, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns values and targets.

    Values are pixels, uint8 (n, height, width) from 0 to 255, or features, float64 (n, d). Targets are int64 (n,).
    """
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    targets = np.asarray(data.target, np.int64)
    images = name in IMAGES
    values = np.rint(data.images * (255 / 16)).astype(np.uint8) if images else np.asarray(data.data, np.float64)
    if part is None:
        return values, targets
    from sklearn.model_selection import train_test_split

    which, share, state = part
    try:
        cut_parts = train_test_split(values, targets, test_size=share, random_state=state, stratify=targets)
    except ValueError:
        raise RecipeError(
            f"data.holdout: a test share of {share!r} with random_state {state!r} cannot be cut; allowed: a "
            "share between 0 and 1 that leaves at least one record of each label on both sides"
        ) from None
    train, test, train_targets, test_targets = cut_parts
    return (train, train_targets) if which == "train" else (test, test_targets)
