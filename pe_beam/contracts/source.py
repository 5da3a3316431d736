"""The contract of a source, whose rows can be cut, read and digested piece by piece."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pyarrow as pa

from pe_beam.contracts.content import Content
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.errors import EmptyInputError, StageError

SHARD_ROWS = 8192
"""Largest number of rows of a piece. It is part of the format: another value gives another fingerprint."""


BATCH_ROWS = 1024
"""Largest number of rows of a batch."""


BATCH_BYTES = 64 << 20
"""Payload size in bytes at which a batch ends early (a single larger record is a batch of its own)."""


IMAGE_SCHEMA = pa.schema([pa.field("image", pa.binary())])
"""Payload of a batch of images: the bytes of the encoded file; null if the row is a fault."""


PARTS = ("train", "test")

SOURCE, ROW = "source", "row"
"""Columns of the batches of `Source.transform`: a text, and a whole number from 0 on. Each pair comes once."""

UNREAD = "column that is not read: "
"""Fact of a batch (`SourceBatch.seen`), with the column's name behind it; without one where only records have names."""

TOLD = "told: "
"""Fact of a batch (`SourceBatch.seen`), with one of a few fixed phrases behind it for the data holder's terminal."""


Encoding = Literal[
    "utf-8", "iso-8859-1", "iso-8859-2", "iso-8859-15", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255",
    "cp1256", "cp1257", "cp1258", "cp874", "cp932", "cp949", "gb18030", "big5",
]  # fmt: skip
"""How a CSV file writes its text. In each of them no character but ASCII's own has the byte of a comma, a semicolon, a
tab, a quote or a line end, so that a file is parted into fields before its text is decoded."""
BARRED = ("cp932", "gb18030", "big5")
"""Encodings of which some characters have the byte of a bar (|) in them."""


@dataclass(frozen=True)
class Piece:
    """A fixed row range of one of the sorted source files. It contains file names, which are private.

    Attributes:
      file: the source file; for a folder of images the folder, for a data set its name.
      file_index: the file's position among the sorted files (folder and data set: 0).
      start: the first row.
      stop: the last row + 1.
      files: for a folder of images the files of the range, relative to the folder; else empty.
      offset: for text files the first byte of the range.
      end: for text files the last byte of the range + 1.
      whole: of a source that digests whole files: the digest of this one, and what shows whether it has changed since.
    """

    file: str
    file_index: int
    start: int
    stop: int
    files: tuple[str, ...] = ()
    offset: int = 0
    end: int = 0
    whole: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """Returns a name that contains nothing private but the row number. Names sort in the order of the pieces.

        >>> Piece("digits", 0, 8192, 10000).name
        '000000-000000008192'
        """
        return f"{self.file_index:06d}-{self.start:012d}"


@dataclass(frozen=True)
class FilePart:
    """A source file or a byte range of one, which is cut in one place. It contains file names, which are private.

    Attributes:
      file: the source file; "" is the whole source.
      file_index: the file's position among the sorted files.
      start: the first byte of the range.
      stop: the last byte of the range + 1; 0 if the part is the whole file.
      size: the bytes of the whole file; 0 if they are not known.
      cost: the bytes that cutting reads, roughly; 0 if it reads a footer or a listing. Cheap parts are cut together.
    """

    file: str
    file_index: int
    start: int = 0
    stop: int = 0
    size: int = 0
    cost: int = 0


@dataclass(frozen=True)
class FileCut:
    """What cutting a part has found. It is private.

    Attributes:
      part: the part.
      pieces: its pieces, if the part is a whole file.
      scan: what the source needs to join the parts of one file. It can be pickled, and is small.
    """

    part: FilePart
    pieces: tuple[Piece, ...] = ()
    scan: Any = None


@dataclass(frozen=True)
class SourceBatch:
    """Consecutive rows of a piece, at most `BATCH_ROWS`.

    Attributes:
      payload: columns of the modality, n rows.
      labels: n labels as text; None for a missing label.
      clients: n client ids as text; None for a missing id.
      rows: n locators "file:row", used only for `private/rejects/`.
      faults: position in this batch -> why that row could not be read at all.
      seen: facts about this batch. `Source.refuse` judges the facts of all batches together. Private.
    """

    payload: pa.Table
    labels: list[str | None]
    clients: list[str | None]
    rows: list[str]
    faults: dict[int, Fault] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises StageError for lists of unequal length: rows would be lost, or have the labels of others."""
        if not self.payload.num_rows == len(self.labels) == len(self.clients) == len(self.rows):
            raise StageError(
                "data.source: a batch wants a label, a client and a locator for each row; None where none is"
            )


@dataclass(frozen=True, kw_only=True)
class SourceRequest:
    """What a source has to read, from the section `data` of a recipe.

    Attributes:
      path: the value of `data.path` (or of a holdout); not empty.
      content: turns the columns into the payload.
      columns: role (a payload field, label, client) -> column name; for label also several names. A role that is not
        given has the column of its own name.
      labelled: whether records have labels.
      client: whether records have client ids; only for a source that takes them.
      part: ("train" or "test", test share, random state) of a split, only for a source with `cuts`; None: all rows.
      key: the recipe key that messages name for `path`.
      labels: the declared labels. A record's label that is another spelling of a declared name becomes the declared
        one. None: labels stay as they are in the data.
      separator: the text between two fields of a line.
      encoding: how CSV files write their text, as Python's codecs are named.
      chat: whether lists of messages are read as text.
      never_stop: whether a file that cannot be opened is a reject instead of an error.
      options: `data.options`, validated by the source's `Options`.
      records: the records of one piece, for a source with a `transform`; with columns `SOURCE` and `ROW`, sorted by
        rows. None: none are at hand.
      members: of a window of a stream, what it may read, as the stream's source has found it (`contracts.stream.Cut`);
        only for a source that takes it. None: all of `path`.
    """

    path: str
    content: Content
    columns: Mapping[str, str | Sequence[str]]
    labelled: bool
    client: bool
    part: tuple[str, float, int] | None = None
    key: str = "data.path"
    labels: Sequence[str] | None = None
    separator: str = ","
    encoding: Encoding = "utf-8"
    chat: bool = False
    never_stop: bool = False
    options: Options = field(default_factory=Options)
    records: pa.Table | None = None
    members: Mapping[str, Any] | None = None


class Source(abc.ABC):
    """Rows that can be cut, read and digested piece by piece. It can be pickled, and opens files only in its methods.

    It is registered under the entry point group `pe_beam.sources`.
    """

    Options: ClassVar[type[Options]] = Options
    """The typed model of `data.options`."""
    takes: ClassVar[frozenset[str]] = frozenset({"columns", "client"})
    """The request fields that it supports: columns, client, separator, encoding, chat, never_stop, members. A recipe
    that needs others is refused. "never_stop": a damaged record never affects others (DESIGN, privacy rule 14)."""
    gathers: ClassVar[bool] = False
    """Whether a record is all rows of a client, as modalities with `by_client` want it."""
    cuts: ClassVar[bool] = False
    """Whether it applies `SourceRequest.part` itself. If not, records are split after they are read."""

    @classmethod
    def open(cls, request: SourceRequest) -> Source:
        """Returns the source of a request. It reads no data. Every registered source implements it.

        Raises:
          RecipeError: the source does not support the request.
        """
        raise NotImplementedError

    @classmethod
    def on_disk(cls, path: str) -> bool:
        """Returns whether the path of a request is on a disk. A source whose path names something else overrides it.

        >>> Source.on_disk("visits/*.csv"), Source.on_disk("gs://bucket/visits.csv")
        (True, False)
        """
        return "://" not in path

    @abc.abstractmethod
    def pieces(self) -> list[Piece]:
        """Returns the pieces in order. It uses only listings and footers.

        Raises:
          DataError: there are no data, or a column is missing or has a wrong type.
        """

    def transform(self, opened: Callable[[], Source]) -> Any:
        """Returns a Beam transform of a pipeline's root that yields the records, or None: pieces are cut and read.

        The graph holds `opened`, which opens this source on a worker, and never the source: its paths are private.

        Its elements are Arrow batches with the columns `SOURCE` and `ROW`. A piece is `SHARD_ROWS` rows of one source;
        `read` and `digest` get its records by `SourceRequest.records`.
        """
        return None

    def files(self) -> list[FilePart]:
        """Returns what can be cut in different places, in order. It uses only listings.

        A source that does not override this is cut in one place, by `pieces`. One that does overrides `cut_file` as
        well. Several threads may call `cut_file` at a time.

        Raises:
          DataError: there are no data.
        """
        return [FilePart("", 0)]

    def listed(self) -> list[tuple[str, int]]:
        """Returns (file, bytes; -1: not known) of each file once, in order: what may be members of a window.

        Raises:
          DataError: as `files`, but an empty source has no files and raises nothing.
        """
        try:
            return list({part.file: part.size for part in self.files()}.items())
        except EmptyInputError:
            return []

    def cut_file(self, part: FilePart) -> FileCut:
        """Cuts a part.

        Raises:
          DataError: a column is missing or has a wrong type, or the file is damaged.
        """
        return FileCut(part, tuple(self.pieces()))

    def join_cuts(self, cuts: Sequence[FileCut]) -> list[Piece]:
        """Returns the pieces of one file from the cuts of all its parts, in the order of the parts."""
        return [piece for cut in cuts for piece in cut.pieces]

    def digested(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """Returns the pieces of one file with what their digests share (`Piece.whole`), so that it is computed once.

        Raises:
          DataError: as `digest`.
        """
        return pieces

    def check_pieces(self, pieces: Sequence[Piece]) -> None:  # noqa: B027
        """Checks the pieces of all files together, in order.

        Raises:
          EmptyInputError: there are none.
          DataError: there is a fault that no single file shows.
        """

    @abc.abstractmethod
    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """Yields the rows of a piece, in order, in batches.

        Raises:
          DataError: a file is missing, is damaged, or has changed since the pieces were cut.
        """

    @abc.abstractmethod
    def digest(self, piece: Piece) -> str:
        """Returns a SHA-256 (hex) that depends on the source bytes of the piece and not on `data.path`. Private.

        Raises:
          DataError: a file is missing or cannot be read.
        """

    def refuse(self, seen: Collection[str]) -> None:  # noqa: B027
        """Checks the facts (`SourceBatch.seen`) of all batches of all pieces, before any budget is spent.

        Raises:
          DataError: there is a fault that no single record shows, such as a column that no record has.
        """


def cut(rows: int) -> Iterator[tuple[int, int]]:
    """Yields ranges of at most `SHARD_ROWS` rows that together cover `rows` rows.

    >>> list(cut(10000))
    [(0, 8192), (8192, 10000)]
    """
    for start in range(0, rows, SHARD_ROWS):
        yield start, min(start + SHARD_ROWS, rows)


def image_table(images: Sequence[bytes | None]) -> pa.Table:
    """Returns a payload table of encoded images."""
    return pa.table([pa.array(images, pa.binary())], schema=IMAGE_SCHEMA)
