"""The stream source `files`: new files at `data.path`, each in the window of its stamp (DESIGN, privacy rule 16)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from pe_beam.contracts.stream import Cut, Span, StreamRequest, StreamSource
from pe_beam.errors import RecipeError
from pe_beam.sources import files, finding
from pe_beam.sources.members import demand_folder, entries
from pe_beam.storage import reading

_FIELDS = {
    "Y": r"(?P<Y>\d{4})",
    "m": r"(?P<m>\d{2})",
    "d": r"(?P<d>\d{2})",
    "H": r"(?P<H>\d{2})",
    "M": r"(?P<M>\d{2})",
    "S": r"(?P<S>\d{2})",
}
_ORDER = "YmdHMS"


class StampPattern:
    """Reads the instant that the end of a path tells: as many parts of it as the pattern has.

    Args:
      pattern: text with %Y %m %d %H %M %S, each once at most and none without those before it; * is anything but a
        slash.

    Raises:
      RecipeError: it is no such pattern.

    >>> StampPattern("%Y-%m-%d/%H*.parquet").read("visits/2026-12-01/07-a.parquet")
    datetime.datetime(2026, 12, 1, 7, 0, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, pattern: str) -> None:
        named = re.findall(r"%(.?)", pattern)
        wanted = list(_ORDER[: len(named)])
        if sorted(named) != sorted(wanted) or len(named) < 3:
            raise RecipeError(
                f"stream.stamp: {pattern!r} tells no instant; %Y, %m and %d once each are wanted, and %H, %M and %S in "
                "this order if at all"
            )
        parts = re.split(r"(%.|\*)", pattern)
        whole = "".join("[^/]*" if p == "*" else _FIELDS[p[1]] if p[:1] == "%" else re.escape(p) for p in parts)
        self._form = re.compile(rf"(?:.*/)?{whole}", re.DOTALL)

    def read(self, path: str) -> datetime | None:
        """Returns the instant, in UTC; None: the path tells none."""
        found = self._form.fullmatch(path)
        if found is None:
            return None
        values = {name: int(value) for name, value in found.groupdict().items()}
        try:
            return datetime(*(values.get(name, 0) for name in _ORDER), tzinfo=UTC)  # type: ignore[misc,arg-type]
        except ValueError:
            return None


class FilesStream(StreamSource):
    """Files at `data.path`. On a disk `stream.stamp` reads the stamp in a file's name; an object has one of its own.

    The time at which a file was listed, closed or changed on a disk decides nothing. A file has to appear whole, under
    its name, before the window closes, and to stay as it is until the window is published.
    """

    slides = True

    @classmethod
    def open(cls, request: StreamRequest) -> FilesStream:
        """See StreamSource."""
        if request.stamp is None and not reading.is_object(request.path):
            raise RecipeError(
                "stream.stamp: wanted for files on a disk, whose times tell when they were copied; a pattern of their "
                "names, as %Y-%m-%d/*.parquet"
            )
        return cls(request)

    def __init__(self, request: StreamRequest) -> None:
        self._path, self._listing = request.path, request.listing
        self._pattern = None if request.stamp is None else StampPattern(request.stamp)

    def check(self) -> None:
        """See StreamSource. Raises RecipeError and DataError as `members.demand_folder`."""
        demand_folder(self._path, "data.path")

    def cut(self, span: Span, before: Mapping[str, Any] | None) -> Cut:
        """See StreamSource."""
        inside: list[tuple[str, int, str]] = []
        late, unstamped = [], []
        self.check()
        with files.explained("data.path", self._path):
            listed = self._listing()
            stamps = list(files.ahead(self._stamp, [file for file, _ in listed], self._path))
            for (file, size), stamp in zip(listed, stamps, strict=True):
                if stamp is None:
                    unstamped.append(self._position(file))
                elif span.has(stamp):
                    inside.append((file, files.size(file) if size < 0 else size, stamp.isoformat()))
                elif stamp < span.start:
                    late.append(self._position(file))
            found, sizes, told = [list(column) for column in zip(*inside, strict=True)] or ([], [], [])
            members = {"files": entries(found, sizes, told, self._path)}
        return Cut(members, [self._position(str(file)) for file in found], late, unstamped)

    def without(self, members: Mapping[str, Any], positions: Collection[str]) -> Mapping[str, Any]:
        """See StreamSource."""
        return {"files": [entry for entry in members["files"] if self._position(entry["file"]) not in positions]}

    def _position(self, file: str) -> str:
        return finding.inside(file, self._path)

    def _stamp(self, file: str) -> datetime | None:
        if self._pattern is not None:
            return self._pattern.read(file)
        return datetime.fromtimestamp(float(files.stamp(file)[2]), UTC)
