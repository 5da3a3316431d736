"""WebDataset: tar files in which members form one record if their names agree up to the first dot."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
from pydantic import Field

from pe_beam import names as spelling
from pe_beam.contracts import source as base
from pe_beam.contracts.cutting import cut_here
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import DataError, EmptyInputError
from pe_beam.sources import files, finding, forms, tar
from pe_beam.sources.folder import ENDINGS, MAX_BYTES, is_beside
from pe_beam.sources.listed import TOO_LARGE
from pe_beam.sources.pictures import class_name, need_images
from pe_beam.sources.roles import Roles
from pe_beam.sources.spans import cut_spans, span_digest

_MAX_TEXT = 1 << 20
_MAX_PARTS = 256
NO_PICTURE = Fault("record without a picture")
SEVERAL = Fault("record with several pictures")
NO_FILE = Fault("link, device or sparse file in a tar")
BAD_LABEL = Fault("label or client of a record that cannot be read")
TOO_MANY = Fault("record of too many files")


class WebdatasetOptions(Options):
    """What labels are called."""

    names: list[str] | None = Field(None, description="what labels that are numbers mean, in order; null: the numbers")


@dataclass
class _Group:
    """The members of one record, in order."""

    key: str
    parts: dict[str, tar.Member] = field(default_factory=dict)
    many: bool = False
    start: int = 0
    stop: int = 0


@dataclass
class _Record:
    """The picture of a record, and its label and client by column."""

    image: bytes | None
    texts: dict[str, str | None]


class WebdatasetSource(Source):
    """Tar files, sorted by the bytes of their paths. Consecutive members with the same key form one record.

    The key is a member's path up to the first dot of its file name. The rest of the name, in lower case, is its ending.
    The picture is the member with the ending of an image, or the one that `data.columns.image` names (`png`,
    `left.jpg`). The label is the member `cls`, another member, or a field of a JSON member (`json.class.name`). The
    same holds for the client.

    Nothing is unpacked to disk. Only the bytes of a piece are read, one record at a time. A record is a reject if a
    wanted member is a link, a device, a sparse file, or has too many bytes. A damaged header or an archive that is cut
    short stops the run, because the records behind cannot be found.
    """

    Options: ClassVar[type[Options]] = WebdatasetOptions
    takes = frozenset({"columns", "client"})  # not never_stop: behind a damaged header no record can be found

    @classmethod
    def open(cls, request: SourceRequest) -> WebdatasetSource:
        """See Source."""
        need_images(request, "webdataset")
        options = WebdatasetOptions.model_validate(request.options.model_dump())
        columns = {"label": "cls", **request.columns}
        roles = Roles.asked(replace(request, columns=columns))
        return cls(request.path, roles, options, "image" in request.columns)

    def __init__(self, path: str, roles: Roles, options: WebdatasetOptions, named: bool) -> None:
        self._path = path
        self._roles = roles
        self._key = roles.key
        self._names = options.names
        self._picture = roles.names["image"] if named else None
        client = () if roles.client is None else (roles.client,)
        self._texts = (*roles.label, *client)

    def pieces(self) -> list[Piece]:
        """See Source."""
        return cut_here(self)

    def files(self) -> list[FilePart]:
        """See Source."""
        with files.explained(self._key, self._path):
            found = finding.find_sized(self._path, (".tar", ".tgz", ".tbz2", ".txz"))
        if not found:
            raise finding.no_files(self._path, self._key, "tar")
        return [FilePart(file, index, size=size) for index, (file, size) in enumerate(found)]

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source. Reads only headers, from the first to the last."""
        return FileCut(part, tuple(self._cut(part)))

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(f"{self._key}: the tar files at {self._path} hold no records; one at least is wanted")

    def _cut(self, part: FilePart) -> Iterator[Piece]:
        with self._opened(part.file, part.size) as handle:
            compressed = forms.packed(handle.read(16), "")
            if compressed:
                raise DataError(f"{self._key}: a tar file there is compressed ({compressed}); unpack it first")
            groups = _groups(tar.members(handle, part.size))
            yield from cut_spans(((group.start, group.stop) for group in groups), part.file, part.file_index)

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name, first = files.below(piece.file, self._path), piece.start
        held: list[_Record | Fault] = []
        size = 0
        with self._opened(piece.file) as handle:
            groups = _groups(tar.members(handle, files.size(piece.file), piece.offset, piece.end))
            for group in groups:
                record = self._record(handle, group)
                more = 0 if isinstance(record, Fault) else len(record.image or b"")
                if held and (size + more > base.BATCH_BYTES or len(held) == base.BATCH_ROWS):
                    yield self._batch(held, name, first)
                    first, size, held = first + len(held), 0, []
                held.append(record)
                size += more
        if first + len(held) != piece.stop:
            raise DataError(f"{self._key}: a tar file is not what it was when it was listed")
        if held:
            yield self._batch(held, name, first)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the bytes of the range, including headers."""
        with files.explained(self._key, piece.file):
            found = span_digest(piece, "webdataset")
        if found is None:
            raise DataError(f"{self._key}: a tar file is not what it was when it was listed")
        return found

    @contextlib.contextmanager
    def _opened(self, file: str, size: int = 0) -> Iterator[BinaryIO]:
        try:
            with files.explained(self._key, file), files.open_file(file, size) as handle:
                yield handle
        except tar.TarError as error:
            raise DataError(f"{self._key}: a tar file there cannot be read: {error}") from None

    def _record(self, handle: BinaryIO, group: _Group) -> _Record | Fault:
        """Returns the picture, label and client of a record, or the fault why it cannot be read."""
        pictures = [ending for ending in group.parts if self._is_picture(ending)]
        if group.many:
            return TOO_MANY
        if len(pictures) != 1:
            return SEVERAL if pictures else NO_PICTURE
        member = group.parts[pictures[0]]
        if not member.plain:
            return NO_FILE
        if member.size > MAX_BYTES:
            return TOO_LARGE
        texts: dict[str, str | None] = {}
        for column in self._texts:
            text = self._text(handle, group.parts, column)
            if isinstance(text, Fault):
                return text
            texts[column] = text
        return _Record(_content(handle, member), texts)

    def _is_picture(self, ending: str) -> bool:
        if self._picture is not None:
            return ending == self._picture.lower()
        return f".{ending}".endswith(ENDINGS)

    def _text(self, handle: BinaryIO, parts: Mapping[str, tar.Member], column: str) -> str | Fault | None:
        """Returns a member's text or a field of a JSON member, None if there is none, or a fault."""
        member, inside = parts.get(column), []
        if member is None:
            head, _, rest = column.partition(".")
            member, inside = parts.get(head), rest.split(".")
        if member is None:
            return None
        if not member.plain or member.size > _MAX_TEXT:
            return BAD_LABEL
        try:
            text = _content(handle, member).decode("utf-8-sig")
            value = _inside(json.loads(text), inside) if inside else text
            str(value).encode()  # JSON may give half of a surrogate pair
        except (ValueError, RecursionError):
            return BAD_LABEL
        if isinstance(value, bool):
            return str(value).lower()
        if value is None or isinstance(value, int | float | str):
            return None if value is None else spelling.plain(str(value))
        return BAD_LABEL

    def _batch(self, held: list[_Record | Fault], name: str, first: int) -> SourceBatch:
        faults = {row: record for row, record in enumerate(held) if isinstance(record, Fault)}
        whole = [_Record(None, {}) if isinstance(record, Fault) else record for record in held]
        columns = {self._roles.names["image"]: pa.array([record.image for record in whole], pa.binary())}
        for column in self._texts:
            texts = [record.texts.get(column) for record in whole]
            named = column in self._roles.label
            columns[column] = pa.array([self._named(text) if named else text for text in texts], pa.string())
        rows = [f"{name}:{first + i}" for i in range(len(held))]
        return self._roles.batch(pa.table(columns), rows, faults)

    def _named(self, text: str | None) -> str | None:
        if text is None or self._names is None:
            return text
        digits = spelling.digits(text)
        return text if digits is None else class_name(int(digits), self._names)


def _groups(members: Iterator[tar.Member]) -> Iterator[_Group]:
    """Groups consecutive members with the same key. An ending that comes again begins another record."""
    group: _Group | None = None
    for member in members:
        folder, sign, last = files.printable(member.name).rpartition("/")
        stem, _, ending = last.partition(".")
        if not stem or (not ending and is_beside(stem)):
            continue  # hidden files, README
        key, ending = f"{folder}{sign}{stem}", ending.lower()
        if group is None or group.key != key or ending in group.parts:
            if group is not None:
                yield group
            group = _Group(key, start=member.start)
        if len(group.parts) < _MAX_PARTS:
            group.parts[ending] = member
        else:
            group.many = True
        group.stop = member.stop
    if group is not None:
        yield group


def _content(handle: BinaryIO, member: tar.Member) -> bytes:
    handle.seek(member.offset)
    data = handle.read(member.size)
    if len(data) < member.size:
        raise tar.TarError("it is cut short: a member is longer than what is left of it")
    return data


def _inside(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
