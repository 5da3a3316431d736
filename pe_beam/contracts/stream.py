"""The contract of a stream's source: which records belong to a window, by stamps that were fixed before our code ran.

A window is committed once as its members. `data.source` then reads exactly these (`SourceRequest.members`), so that the
private graph of a window is a batch job like any other (DESIGN, privacy rule 16).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pe_beam.contracts.options import Options


@dataclass(frozen=True)
class Span:
    """The instants of a window: from `start` on, before `stop`. Both are aware, in UTC."""

    start: datetime
    stop: datetime

    def has(self, stamp: datetime) -> bool:
        """Returns whether an instant lies in it."""
        return self.start <= stamp < self.stop


@dataclass(frozen=True)
class Cut:
    """What a source has found for a window. It is private.

    Attributes:
      members: what the window's manifest holds, as plain JSON. It names every record of the window: files with digests
        and stamps, or ranges of offsets.
      positions: names that may be members of one window only, such as files, in the order in which `Source.listed`
        gives the members. Empty if ranges tile by themselves.
      late: positions that are stamped before the window. Those that no earlier manifest holds have come too late.
      unstamped: positions without a stamp that can be read. They are in no window.
    """

    members: Mapping[str, Any]
    positions: Sequence[str] = ()
    late: Sequence[str] = ()
    unstamped: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """What a stream's source works with, from the sections `data` and `stream` of a recipe.

    Attributes:
      data_source: the name of the source that reads the members, from `data.source`.
      path: the value of `data.path`.
      stamp: how an instant is read from a file's name, from `stream.stamp`; None: the store's own stamp.
      data_options: `data.options`, validated by the `Options` of `data.source`.
      options: `stream.options`, validated by `Options` of the stream's source.
      close_after: the time after a window's end at which it is cut, at the earliest.
      listing: (file, bytes) of all files that `data.source` would read at `path` now, by `Source.listed`.
    """

    data_source: str
    path: str
    listing: Callable[[], Sequence[tuple[str, int]]]
    stamp: str | None = None
    close_after: timedelta = timedelta(0)
    data_options: Options = field(default_factory=Options)
    options: Options = field(default_factory=Options)


class StreamSource(abc.ABC):
    """Says which records belong to a window. Registered under the entry point group `pe_beam.stream_sources`.

    The driver alone uses it, under the lock of the stream, some time after the window's end (`window.close_after`).
    """

    Options: ClassVar[type[Options]] = Options
    """The typed model of `stream.options`."""
    reads: ClassVar[frozenset[str] | None] = None
    """The values of `data.source` that can read its members; None: every source that takes `members`."""
    slides: ClassVar[bool] = False
    """Whether its cuts have positions, which may be in several windows (`stream.sliding`); ranges tile."""

    @classmethod
    @abc.abstractmethod
    def open(cls, request: StreamRequest) -> StreamSource:
        """Returns the source of a request. It reads no data.

        Raises:
          RecipeError: the source does not support the request.
        """

    def check(self) -> None:  # noqa: B027
        """Checks, before the first window and at each start, what the promise needs of the source's own setting.

        Raises:
          InputError: stamps are not fixed by the source, or records are missing that no manifest holds.
          ServiceError: the source does not answer; the same command goes on later.
        """

    @abc.abstractmethod
    def cut(self, span: Span, before: Mapping[str, Any] | None) -> Cut:
        """Returns the members of a window. No listing time and no clock of ours decides.

        Args:
          span: the window.
          before: the members of the window before; None for the first. Ranges go on where these end.

        Raises:
          InputError: the source cannot be asked, or it no longer has what the window needs.
          ServiceError: the source does not answer, or cannot tell yet; the same command goes on later.
        """

    def without(self, members: Mapping[str, Any], positions: Collection[str]) -> Mapping[str, Any]:
        """Returns members without some positions: those that an earlier window holds, or that cannot be opened.

        A source whose cuts have no positions is not asked.
        """
        raise NotImplementedError
