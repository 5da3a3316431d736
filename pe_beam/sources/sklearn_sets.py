"""Images that ship with scikit-learn, by name."""

from __future__ import annotations

import functools
import hashlib
import io
import struct
from collections.abc import Iterator

import numpy as np

from pe_beam.errors import DataError, RecipeError
from pe_beam.sources.base import BATCH_ROWS, Piece, Source, SourceBatch, cut, image_table

NAMES = ("digits",)


class SklearnSource(Source):
    """A data set, or one part of scikit-learn's stratified cut of it, in the order that the cut gives."""

    def __init__(
        self, name: str, *, labelled: bool, part: tuple[str, float, int] | None, key: str = "data.path"
    ) -> None:
        if name not in NAMES:
            raise RecipeError(f"{key}: {name!r} is not a known data set; allowed: {', '.join(NAMES)}")
        self._name = name
        self._labelled = labelled
        self._part = part
        self._key = key
        if part is not None:
            _load(name, part)

    def pieces(self) -> list[Piece]:
        """See Source."""
        _, targets = _load(self._name, self._part)
        return [Piece(self._name, 0, a, b) for a, b in cut(len(targets))]

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        images, targets = self._rows(piece)
        for a in range(0, len(targets), BATCH_ROWS):
            pngs = [encode_png(image) for image in images[a : a + BATCH_ROWS]]
            labels = [str(t) if self._labelled else None for t in targets[a : a + BATCH_ROWS].tolist()]
            rows = [f"{self._name}:{piece.start + a + i}" for i in range(len(pngs))]
            yield SourceBatch(image_table(pngs), labels, [None] * len(pngs), rows)

    def digest(self, piece: Piece) -> str:
        """SHA-256 over shape, pixels and targets."""
        images, targets = self._rows(piece)
        total = hashlib.sha256(b"pe_beam sklearn 1\0" + struct.pack(">3Q", *images.shape))
        total.update(images.tobytes())
        total.update(targets.astype(">i8").tobytes())
        return total.hexdigest()

    def _rows(self, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
        images, targets = _load(self._name, self._part)
        if piece.stop > len(targets):
            raise DataError(f"{self._key}: the data set has changed since it was listed")
        return images[piece.start : piece.stop], targets[piece.start : piece.stop]


def encode_png(image: np.ndarray) -> bytes:
    """Gray PNG of an image, uint8 of shape (height, width)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@functools.lru_cache(maxsize=4)
def _load(name: str, part: tuple[str, float, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 (n, height, width) of 0 to 255, and targets, int64 (n,)."""
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    targets = np.asarray(data.target, np.int64)
    if part is None:
        return images, targets
    from sklearn.model_selection import train_test_split

    which, share, state = part
    try:
        cut_parts = train_test_split(images, targets, test_size=share, random_state=state, stratify=targets)
    except ValueError:
        raise RecipeError(
            f"data.holdout: a test share of {share!r} with random_state {state!r} cannot be cut; allowed: a "
            "share between 0 and 1 that leaves at least one record of each label on both sides"
        ) from None
    train, test, train_targets, test_targets = cut_parts
    return (train, train_targets) if which == "train" else (test, test_targets)
