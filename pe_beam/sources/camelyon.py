"""Camelyon17 in the layout of WILDS: `metadata.csv` beside `patches/patient_*_node_*/patch_*.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from pe_beam import names as spelling
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch, SourceRequest
from pe_beam.sources.csv_files import CsvSource
from pe_beam.sources.listed import NO_NAME, NO_SPLIT, Listed, ListedSource
from pe_beam.sources.pictures import need_images, split_of
from pe_beam.sources.roles import Roles

_COLUMNS = ("patient", "node", "x_coord", "y_coord", "center", "split")
_TABLE = FieldContent(pa.schema([(name, pa.string()) for name in _COLUMNS]))
_BY_CENTER = {"1": "val", "2": "test"}
"""WILDS reserves two hospitals for these splits, whatever the column `split` says."""
_BY_NUMBER = {"0": "train", "1": "id_val"}
_SPLITS = ("train", "id_val", "val", "test")
_NAME = "patches/patient_{patient}_node_{node}/patch_patient_{patient}_node_{node}_x_{x_coord}_y_{y_coord}.png"
_TUMOR = {"0": "no_tumor", "1": "tumor"}


class CamelyonSource(ListedSource):
    """Patches that the rows of `metadata.csv` name.

    `FOLDER#train`, `#id_val`, `#val` and `#test` are the official splits of WILDS. The label is no_tumor or tumor. The
    client is the patient.
    """

    takes = frozenset({"client"})  # not never_stop: the table is CSV

    @classmethod
    def open(cls, request: SourceRequest) -> CamelyonSource:
        """See Source."""
        need_images(request, "camelyon")
        path, split = split_of(request.path, _SPLITS, request.key)
        columns = {"label": "tumor", "client": "patient"}
        roles = Roles.of(_TABLE, columns, labelled=request.labelled, client=request.client, key=request.key)
        return cls(path, split, roles, request.labels)

    def __init__(self, path: str, split: str | None, roles: Roles, labels: Sequence[str] | None) -> None:
        super().__init__(roles.key)
        self._root = path.rstrip("/") or "/"
        self._split = split
        self._rows = CsvSource(f"{self._root}/metadata.csv", roles)
        self._known = {spelling.label_key(label): label for label in labels or ()}

    def pieces(self) -> list[Piece]:
        """See Source."""
        return self._rows.pieces()

    def _table(self, piece: Piece) -> Source:
        return self._rows

    def _any_table(self) -> Source:
        return self._rows

    def _folder(self, piece: Piece) -> str:
        return self._root

    def _listed(self, batch: SourceBatch) -> Listed:
        rows = batch.payload.to_pylist()
        splits = [_split(row) for row in rows]
        here = [i for i, split in enumerate(splits) if None in (split, self._split) or split == self._split]
        return Listed(
            here,
            [_file(rows[i]) if self._split is None or splits[i] else NO_SPLIT for i in here],
            [self._label(batch.labels[i]) for i in here],
            [batch.clients[i] for i in here],
        )

    def _label(self, text: str | None) -> str | None:
        found = None if text is None else _TUMOR.get(spelling.number_or_text(text), text)
        return None if found is None else self._known.get(spelling.label_key(found), found)


def _file(row: Mapping[str, str | None]) -> str | Fault:
    return NO_NAME if None in row.values() else _NAME.format(**row)


def _split(row: Mapping[str, str | None]) -> str | None:
    """Returns the split of a row; None: the row names no known split, so it is a reject in every split."""
    center, number = (spelling.number_or_text(row[name] or "") for name in ("center", "split"))
    return _BY_CENTER.get(center) or _BY_NUMBER.get(number)
