"""Reads a public set of pictures through a source, as private pictures are read, and makes candidates from them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pe_beam import names, registry
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import IMAGE_SCHEMA, Source, SourceBatch, SourceRequest
from pe_beam.errors import RecipeError
from pe_beam.keyed import encode_fields
from pe_beam.modalities.image.codec import decode_image, encode_png
from pe_beam.modalities.image.simulators.fitting import fitted
from pe_beam.modalities.image.simulators.picture_set import Writer, set_key

_MOST_REJECTS = 0.05
"""Largest share of pictures that may be left out; equal to the default of data.max_rejects."""


class SetOptions(Protocol):
    """The options of `nearest-image` that say which pictures there are."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def columns(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def source_options(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def labels(self) -> str: ...  # noqa: D102
    @property
    def side(self) -> int | None: ...  # noqa: D102
    @property
    def mode(self) -> str: ...  # noqa: D102
    @property
    def levels(self) -> tuple[int, int] | None: ...  # noqa: D102


class SetReader:
    """Reads a set as the recipe says. Opens nothing until `key` or `write` is called.

    Args:
      options: options of the generator.
      labels: the declared labels.
    """

    def __init__(self, options: SetOptions, labels: Sequence[str | None]) -> None:
        self._options, self._labels = options, labels
        self._own = options.labels == "own"
        if self._own and list(labels) == [None]:
            raise RecipeError("generator.labels: own, but data.labels declares none; ignore is wanted")
        self._class: type[Source] = registry.find("sources", options.source, key="generator.source")
        if "://" in options.path:
            raise RecipeError(f"generator.path: {options.path!r} is not allowed; files on this machine are wanted")
        try:
            self._source_options = self._class.Options.model_validate(options.source_options)
        except ValidationError as error:
            raise RecipeError(f"generator.source_options: {error.errors()[0]['msg']}") from None
        if options.columns and "columns" not in self._class.takes:
            raise RecipeError(f"generator.columns: source {options.source!r} makes no use of them")

    def key(self, embedder: str, embedder_options: dict[str, Any]) -> str:
        """Returns the key of the set. It depends on names and sizes of files, and on all options that shape the set."""
        own = self._options
        files = hashlib.sha256()
        source = self._source()
        for piece in source.pieces():
            for name in piece.files or ("",):
                path = Path(piece.file) / name
                size = path.stat().st_size if path.is_file() else source.digest(piece)  # a data set of a package
                shown = os.fsencode(name or path.name)
                files.update(encode_fields(shown, size, piece.start, piece.stop))
        declared = self._labels if self._own else None
        shape: list[Any] = [own.source, own.columns, own.source_options, own.labels, declared, own.side, own.mode]
        shape += [] if own.levels is None else [list(own.levels)]  # sets of before keep their keys
        return set_key(files.hexdigest(), shape, embedder, embedder_options)

    def write(self, folder: Path, embedder: Embedder) -> None:
        """Makes candidates of all pictures and embeds them, batch by batch.

        Raises:
          RecipeError: no picture can be used, or more than a twentieth cannot.
        """
        writer = Writer(folder, embedder.dimension)
        rejects: Counter[str] = Counter()
        source = self._source()
        for piece in source.pieces():
            for batch in source.read(piece):
                images, labels = self._candidates(batch, rejects)
                for start in range(0, len(images), embedder.batch_size):
                    some = slice(start, start + embedder.batch_size)
                    _embed(writer, embedder, images[some], labels[some], rejects)
        bad = sum(rejects.values())
        if not writer.rows and not bad:  # then labels are its own: an empty set is no source
            raise RecipeError(
                "generator.path: no picture there is of one of data.labels; with labels: own each label's pictures are "
                "wanted there (source folder: in a folder of its name), with labels: ignore any"
            )
        if not writer.rows or bad > _MOST_REJECTS * (writer.rows + bad):
            kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(rejects.items()))
            raise RecipeError(
                f"generator.path: {bad} of {writer.rows + bad} pictures there cannot be used ({kinds}); at most "
                f"{_MOST_REJECTS:.0%} of them may be left out, and one at least is wanted"
            )
        writer.finish({"rejects": dict(sorted(rejects.items()))})

    def _source(self) -> Source:
        own = self._options
        return self._class.open(
            SourceRequest(
                path=own.path,
                content=FieldContent(IMAGE_SCHEMA),
                columns=own.columns,
                labelled=self._own,
                client=False,
                key="generator.path",
                labels=[label for label in self._labels if label is not None] if self._own else None,
                options=self._source_options,
            )
        )

    def _candidates(self, batch: SourceBatch, rejects: Counter[str]) -> tuple[list[bytes], list[int]]:
        """Returns a batch's pictures as candidates show them, and indices of their labels (-1: labels are ignored)."""
        known = {names.label_key(label): place for place, label in enumerate(self._labels) if label is not None}
        mode = "L" if self._options.mode == "gray" else "RGB"
        images, labels = [], []
        for row, (data, label) in enumerate(zip(batch.payload["image"].to_pylist(), batch.labels, strict=True)):
            place = known.get(names.label_key(label), -1) if self._own and label is not None else -1
            if self._own and place < 0:
                continue  # other classes of the public set are of no use to this run
            image = batch.faults.get(row) or decode_image(data, mode=mode, levels=self._options.levels)
            if isinstance(image, Fault):
                rejects[image.kind] += 1
            else:
                images.append(encode_png(np.asarray(fitted(image, self._options.side))))
                labels.append(place)
        return images, labels


def _embed(writer: Writer, embedder: Embedder, images: list[bytes], labels: list[int], rejects: Counter[str]) -> None:
    """Adds pictures with their vectors. Pictures that cannot be embedded are rejects."""
    found = embedder.embed(pa.table({"image": pa.array(images, pa.binary())}))
    faults = {row: fault.kind for row, fault in found.faults.items()}
    for row in np.flatnonzero(~np.isfinite(found.vectors).all(axis=1)).tolist():
        faults.setdefault(row, "image whose vector is not finite")
    rejects.update(faults.values())
    good = [row for row in range(len(images)) if row not in faults]
    writer.add([images[row] for row in good], found.vectors[good], [labels[row] for row in good])
