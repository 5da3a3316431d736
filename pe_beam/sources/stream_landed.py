"""The stream source `landed`: files of `pipelines/land.py`, by the stamps of their messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pe_beam.contracts.landed import POSITION
from pe_beam.contracts.stream import Cut, Span, StreamRequest, StreamSource
from pe_beam.errors import DataError, InputError, RecipeError
from pe_beam.sources import files, finding
from pe_beam.sources.landed import read_column, repeated_rows, slot_of_file
from pe_beam.sources.members import demand_folder, entries

_KEY = "data.path"


class LandedStream(StreamSource):
    """Files of whole slots. A window has those of its slots that have landed when it closes.

    A message that is delivered again has the same stamp, so it is in the same slot: in the same window, where the rows
    of `twice` are rejects, or in a file that comes after its window was closed, which is a reject as a whole.
    """

    reads = frozenset({"landed"})

    @classmethod
    def open(cls, request: StreamRequest) -> LandedStream:
        """See StreamSource."""
        if request.stamp is not None:
            raise RecipeError(
                "stream.stamp: refused for stream.source landed, whose messages have stamps; allowed: null"
            )
        return cls(request)

    def __init__(self, request: StreamRequest) -> None:
        self._path, self._listing = request.path, request.listing

    def check(self) -> None:
        """See StreamSource. Raises RecipeError and DataError as `members.demand_folder`."""
        demand_folder(self._path, _KEY)

    def cut(self, span: Span, before: Mapping[str, Any] | None) -> Cut:
        """See StreamSource.

        Raises:
          InputError: a slot lies in two windows, or a folder cannot be read.
        """
        inside: list[tuple[str, int, str]] = []
        late = []
        self.check()
        with files.explained(_KEY, self._path):
            for file, size in self._listing():
                slot = slot_of_file(file)
                assert slot is not None  # the source lists no others
                if span.start <= slot.start and slot.stop <= span.stop:
                    inside.append((file, files.size(file) if size < 0 else size, slot.start.isoformat()))
                elif slot.stop <= span.start:
                    late.append(self._position(file))
                elif slot.start < span.stop:
                    raise InputError(
                        "stream.window: a slot of pipelines/land.py lies in two windows; every and anchor that are "
                        "whole slots (--slot, seconds since 1970) are wanted"
                    )
            found, sizes, stamps = [list(column) for column in zip(*inside, strict=True)] or ([], [], [])
            members = {"files": entries(found, sizes, stamps, self._path), "twice": self._twice(found)}
        return Cut(members, [self._position(str(file)) for file in found], late)

    def without(self, members: Mapping[str, Any], positions: Collection[str]) -> Mapping[str, Any]:
        """See StreamSource."""
        left = [entry for entry in members["files"] if self._position(entry["file"]) not in positions]
        return {"files": left, "twice": self._twice([entry["file"] for entry in left])}

    def _twice(self, found: list[Any]) -> dict[str, list[int]]:
        return repeated_rows(found, list(files.ahead(_positions, found, self._path)))

    def _position(self, file: str) -> str:
        return finding.inside(file, self._path)


def _positions(file: str) -> list[str]:
    """Returns the positions of a file; none of one that cannot be opened, which is a reject as a whole."""
    try:
        return [str(position) for position in read_column(file, POSITION, _KEY).to_pylist()]
    except DataError:
        return []
