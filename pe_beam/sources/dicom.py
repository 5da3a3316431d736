"""A folder of DICOM files. Labels and patients are what the files' own headers say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import IMAGE_SCHEMA, Piece, SourceBatch, SourceRequest
from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.sources.dicom_files import is_dicom, quiet_pydicom, read_dicom
from pe_beam.sources.folder import FolderSource
from pe_beam.sources.pictures import need_images
from pe_beam.sources.roles import Roles

NOT_DICOM = Fault("file that is not DICOM")
_IMAGE, _PATIENT = "image", "PatientID"
_TEXTS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "ST", "TM", "UI", "US", "SS", "UL", "SL")
"""Kinds of values (PS3.5, 6.2) that can be a label or an id."""


class DicomSource(FolderSource):
    """Files at any depth below a folder, found and read as `folder` does, with labels and client ids of their headers.

    `data.columns.label` and `data.columns.client` are keywords of the standard's dictionary, such as `Modality` or
    `BodyPartExamined`. The client is `PatientID` unless another keyword is named. Every file is a record: one that is
    not DICOM is a reject, and so is one whose header has no value where one is wanted.
    """

    takes = frozenset({"columns", "client"})  # not never_stop: what unpacks a picture may bring its process down

    @classmethod
    def open(cls, request: SourceRequest) -> DicomSource:
        """See Source. Raises RecipeError if records are not images, or a column is no keyword of a text or number."""
        need_images(request, "dicom")
        columns = {**({"client": _PATIENT} if request.client else {}), **request.columns}
        roles = Roles.of(
            FieldContent(IMAGE_SCHEMA),
            columns,
            labelled=request.labelled,
            client=request.client,
            key=request.key,
            labels=request.labels,
        )
        for role, keywords in roles.by_role().items():
            for keyword in keywords if role != _IMAGE else ():
                _check(role, keyword)
        return cls(request.path, roles)

    def __init__(self, path: str, roles: Roles) -> None:
        super().__init__(path, labelled=False, key=roles.key)
        self._roles = roles

    def _batch(self, piece: Piece, first: int, images: list[bytes | None]) -> SourceBatch:
        files = super()._batch(piece, first, images)
        wanted = [column for column in self._roles.columns() if column != self._roles.names[_IMAGE]]
        heads = [files.faults.get(row) or _head(data or b"", wanted) for row, data in enumerate(images)]
        values = [[None] * len(wanted) if isinstance(head, Fault) else head for head in heads]
        columns = [pa.array([found[at] for found in values], pa.string()) for at in range(len(wanted))]
        table = pa.table([files.payload[_IMAGE], *columns], names=[self._roles.names[_IMAGE], *wanted])
        faults = {row: head for row, head in enumerate(heads) if isinstance(head, Fault)}
        return self._roles.batch(table, list(files.rows), faults)

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._roles.refuse(seen)


def _check(role: str, keyword: str) -> None:
    """Raises RecipeError if a column is no keyword of the standard's dictionary, or one of values that are no names."""
    try:
        quiet_pydicom()
    except ImportError:
        raise MissingExtraError("data.source: dicom needs the package pydicom; install pe_beam[dicom]") from None
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None or dictionary_VR(tag) not in _TEXTS:
        known = "no keyword of DICOM's dictionary" if tag is None else "no text or number"
        raise RecipeError(
            f"data.columns.{role}: {keyword!r} is {known}; wanted is one such as {_PATIENT}, Modality, BodyPartExamined"
        )


def _head(data: bytes, keywords: Sequence[str]) -> list[str | None] | Fault:
    """Returns the values of keywords in a header, or why there are none. Several values are joined by a backslash."""
    if not is_dicom(data):
        return NOT_DICOM
    if not keywords:
        return []
    try:
        file = read_dicom(data, stop_before_pixels=True, specific_tags=list(keywords))
        return file if isinstance(file, Fault) else [_text(file.get(keyword)) for keyword in keywords]
    except Exception as error:  # pydicom's readers raise many kinds of exceptions if a file is damaged
        return Fault("DICOM file that cannot be read", type(error).__name__)


def _text(value: Any) -> str | None:
    """Returns a value as text; None: there is none."""
    if value is None:
        return None
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return "\\".join(str(part).strip() for part in parts) or None
