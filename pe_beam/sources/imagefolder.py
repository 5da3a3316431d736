"""Image folders of Hugging Face: a `metadata.csv`, `.jsonl` or `.parquet` names the pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.cutting import cut_here
from pe_beam.contracts.source import Encoding, FileCut, FilePart, Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import DataError, MissingDataError
from pe_beam.sources import files, finding
from pe_beam.sources.csv_files import CsvSource
from pe_beam.sources.jsonl import JsonlSource
from pe_beam.sources.listed import NO_NAME, Listed, ListedSource
from pe_beam.sources.parquet import ParquetSource
from pe_beam.sources.pictures import need_images
from pe_beam.sources.roles import Roles

_IMAGE, _FILE = "image", "file_name"  # the role, and its column if data.columns names none
_TABLE = FieldContent(pa.schema([(_IMAGE, pa.string())]))
_KINDS: Mapping[str, type[CsvSource] | type[JsonlSource] | type[ParquetSource]] = {
    ".csv": CsvSource,
    ".jsonl": JsonlSource,
    ".parquet": ParquetSource,
}


class ImageFolderSource(ListedSource):
    """Pictures that metadata files at any depth below a folder name, relative to the folder of the metadata file.

    `data.columns.image` is the column of file names (`file_name` if it is not given). Label and client are columns too.
    The path may also be one metadata file. For class folders without metadata, use source `folder`.
    """

    takes = frozenset({"columns", "client", "separator", "encoding"})  # not never_stop: it may be CSV

    @classmethod
    def open(cls, request: SourceRequest) -> ImageFolderSource:
        """See Source."""
        need_images(request, "imagefolder")
        columns = {_IMAGE: _FILE, **request.columns}
        roles = Roles.of(
            _TABLE,
            columns,
            labelled=request.labelled,
            client=request.client,
            key=request.key,
            labels=request.labels,
        )
        return cls(request.path, roles, request.separator, request.encoding)

    def __init__(self, path: str, roles: Roles, separator: str = ",", encoding: Encoding = "utf-8") -> None:
        super().__init__(roles.key)
        self._path = path.rstrip("/") or "/"
        self._roles = roles
        self._csv = (separator, encoding)

    def pieces(self) -> list[Piece]:
        """See Source."""
        return cut_here(self)

    def files(self) -> list[FilePart]:
        """See Source."""
        found = enumerate(self._files())
        return [replace(part, file_index=index) for index, file in found for part in self._source(file).files()]

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source."""
        return self._source(part.file).cut_file(part)

    def join_cuts(self, cuts: Sequence[FileCut]) -> list[Piece]:
        """See Source."""
        return self._source(cuts[0].part.file).join_cuts(cuts)

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            self._any_table().check_pieces(pieces)

    def _files(self) -> list[str]:
        with files.explained(self._key, self._path):
            found = finding.find(self._path, tuple(f"metadata{ending}" for ending in _KINDS))
        found = [file for file in found if file == self._path or file.rpartition("/")[2].startswith("metadata.")]
        if not found and _ending(self._path) in _KINDS:
            raise MissingDataError(f"{self._key}: there is no file {self._path}")
        if not found:
            raise DataError(
                f"{self._key}: no metadata.csv, metadata.jsonl or metadata.parquet below {self._path}; a file of "
                "another name is named itself, FOLDER/labels.csv, and class folders without one are data.source: folder"
            )
        if len({_ending(file) for file in found}) > 1:
            raise DataError(f"{self._key}: metadata files of several kinds lie below {self._path}; one kind is wanted")
        return found

    def _source(self, file: str) -> Source:
        kind = _KINDS.get(_ending(file))
        if kind is None:
            raise DataError(f"{self._key}: a metadata file there is none of {', '.join(_KINDS)}; unpack it first")
        return CsvSource(file, self._roles, *self._csv) if kind is CsvSource else kind(file, self._roles)

    def _table(self, piece: Piece) -> Source:
        return self._source(piece.file)

    def _any_table(self) -> Source:
        return self._source(self._files()[0])

    def _folder(self, piece: Piece) -> str:
        return piece.file.rpartition("/")[0] or "."

    def _listed(self, batch: SourceBatch) -> Listed:
        names = [name or NO_NAME for name in batch.payload[_IMAGE].to_pylist()]
        return Listed(range(len(names)), names, batch.labels, batch.clients)


def _ending(file: str) -> str:
    return "." + file.rpartition(".")[2].lower()
