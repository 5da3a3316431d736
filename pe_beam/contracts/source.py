"""A source: rows that can be cut, read and digested piece by piece."""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from pe_beam.contracts.content import Content
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault

SHARD_ROWS = 8192
"""Rows of a piece at most. A constant of the format: another value is another fingerprint."""


BATCH_ROWS = 1024
"""Rows of a batch at most."""


BATCH_BYTES = 64 << 20
"""Payload bytes at which a batch is cut short (one larger record still makes a batch of its own)."""


IMAGE_SCHEMA = pa.schema([pa.field("image", pa.binary())])
"""Payload of a batch of images: the encoded file's bytes, null where the row is a fault."""


PARTS = ("train", "test")


@dataclass(frozen=True)
class Piece:
    """A fixed row range of one sorted source file. Holds file names, which are private.

    Attributes:
      file: the source file; for a folder of images the folder, for a data set its name.
      file_index: the file's place among the sorted files (folder and data set: 0).
      start: first row.
      stop: row after the last.
      files: for a folder of images the files of that range, relative to the folder; else empty.
      offset: for text files the byte at which the range begins.
      end: for text files the byte after its last.
    """

    file: str
    file_index: int
    start: int
    stop: int
    files: tuple[str, ...] = ()
    offset: int = 0
    end: int = 0

    @property
    def name(self) -> str:
        """A name without anything private in it but the row number, sorted as the pieces are.

        >>> Piece("digits", 0, 8192, 10000).name
        '000000-000000008192'
        """
        return f"{self.file_index:06d}-{self.start:012d}"


@dataclass(frozen=True)
class SourceBatch:
    """Consecutive rows of a piece, at most `BATCH_ROWS`.

    Attributes:
      payload: columns of the modality, n rows.
      labels: n labels as text; None where there is none.
      clients: n client ids as text; None where there is none.
      rows: n locators "file:row", for `private/rejects/` alone.
      faults: position in this batch -> why that row could not be read at all.
      seen: facts about this batch that only all of them together can judge (`Source.refuse`). Private.
    """

    payload: pa.Table
    labels: list[str | None]
    clients: list[str | None]
    rows: list[str]
    faults: dict[int, Fault] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class SourceRequest:
    """What a source is asked to read, as the section `data` of a recipe says.

    Attributes:
      path: what `data.path` (or a holdout) says; not empty.
      content: what becomes of the payload's columns.
      columns: role (a payload field, label, client) -> column name, label also -> several; a role's own name where it
        is not given.
      labelled: whether records have labels.
      client: whether records have client ids; only of a source that takes them.
      part: ("train" or "test", test share, random state) of a cut, only of a source that cuts itself; None: all of it.
      key: the recipe key that messages name for `path`.
      labels: those that are declared: a record's label that is the same name in another spelling becomes the declared
        one. None: labels are as they lie there.
      separator: what parts the fields of a line.
      chat: whether lists of messages are read as text.
      never_stop: whether a file that cannot be opened is a reject instead of an error.
      options: `data.options`, as the source's `Options` has validated them.
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
    chat: bool = False
    never_stop: bool = False
    options: Options = field(default_factory=Options)


class Source(abc.ABC):
    """Rows that can be cut, read and digested piece by piece. Pickles, opens files only when asked.

    It is registered under the entry point group `pe_beam.sources`.
    """

    Options: ClassVar[type[Options]] = Options
    """The typed model of `data.options`."""
    takes: ClassVar[frozenset[str]] = frozenset({"columns", "client"})
    """What of a request it heeds: columns, client, separator, chat, never_stop. A recipe that asks for more is refused;
    "never_stop" promises that one damaged record never swallows others (DESIGN, privacy rule 14)."""
    cuts: ClassVar[bool] = False
    """Whether it heeds `SourceRequest.part` itself; if not, records are cut as they are read."""

    @classmethod
    def open(cls, request: SourceRequest) -> Source:
        """The source of a request. No data are read. Every registered source has it.

        Raises:
          RecipeError: it cannot be had so.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def pieces(self) -> list[Piece]:
        """The pieces in order, from listings and footers alone.

        Raises:
          DataError: nothing is there, or a column is missing or of a wrong type.
        """

    @abc.abstractmethod
    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """The rows of a piece, in order, in batches.

        Raises:
          DataError: a file is gone, damaged or not what it was when the pieces were cut.
        """

    @abc.abstractmethod
    def digest(self, piece: Piece) -> str:
        """SHA-256 (hex) that changes with the source bytes of the piece, not with `data.path`. Private.

        Raises:
          DataError: a file is gone or cannot be read.
        """

    def refuse(self, seen: Collection[str]) -> None:  # noqa: B027
        """Told the facts of all batches of all pieces together, before any budget is spent.

        Raises:
          DataError: something that no single record shows, such as a column that not one of them has.
        """


def cut(rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of `SHARD_ROWS` rows that cover `rows`.

    >>> list(cut(10000))
    [(0, 8192), (8192, 10000)]
    """
    for start in range(0, rows, SHARD_ROWS):
        yield start, min(start + SHARD_ROWS, rows)


def image_table(images: Sequence[bytes | None]) -> pa.Table:
    """A payload table of encoded images."""
    return pa.table([pa.array(images, pa.binary())], schema=IMAGE_SCHEMA)
