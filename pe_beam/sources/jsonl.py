"""JSONL files: one object per line."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pe_beam.contracts.source import SourceRequest
from pe_beam.errors import DataError
from pe_beam.sources import files, finding
from pe_beam.sources.lines import MAX_RECORD, TOO_LONG, LineReader, LinesSource, Record, Wanted
from pe_beam.sources.members import Members, members_of
from pe_beam.sources.objects import COLUMN, OBJECTS, ObjectReader
from pe_beam.sources.roles import Roles


class JsonlSource(LinesSource):
    """Files of one JSON object per line, in UTF-8. Blank lines are skipped. A key that is absent is null.

    A column name with dots is a key of that name, or else a path into nested objects: `review.body`. Numbers are taken
    as they are written, but whole numbers in labels and client ids as plain digits. true and false are taken as these
    words. A line is a reject if it is not an object, is too long, or is not UTF-8, if a name comes twice in an object,
    or if a wanted value is a list or an object. `chat` takes lists of messages as text. With `never_stop` a file in
    another format is one whose lines are rejects, for its first line may be a record that looks like it.
    """

    endings = (".jsonl", ".ndjson")
    kind = "JSONL"
    splits = True
    takes = frozenset({"columns", "client", "chat", "never_stop", "members"})

    @classmethod
    def open(cls, request: SourceRequest) -> JsonlSource:
        """See Source."""
        return cls(
            request.path,
            Roles.asked(request),
            chat=request.chat,
            never_stop=request.never_stop,
            members=members_of(request),
        )

    def __init__(
        self,
        path: str,
        roles: Roles,
        *,
        chat: bool = False,
        never_stop: bool = False,
        members: Members | None = None,
    ) -> None:
        super().__init__(path, roles, never_stop=never_stop, members=members)
        self._objects = ObjectReader(roles, chat=chat)

    def _head(self, lines: LineReader) -> tuple[bytes, None]:
        return b"", None

    def _records(self, lines: LineReader, wanted: Wanted) -> Iterator[Record]:
        while line := lines.read():
            if line.isspace():
                continue
            record = Record(lines.position, len(line))
            if len(line) > MAX_RECORD:
                record.fault = TOO_LONG
            elif wanted.columns:
                record.values, record.fault = self._objects.read(line, wanted)
            yield record

    def refuse(self, seen: Collection[str]) -> None:
        """See Source. Also raises DataError for a column that no record has and no folder name gives."""
        super().refuse(seen)
        by_role = self._roles.by_role().items()
        missing = [(role, column) for role, columns in by_role for column in columns if COLUMN + column not in seen]
        if not missing or OBJECTS not in seen:
            return
        with files.explained(self._key, self._path):
            given = {column for file in finding.find(self._path, self.endings) for column in self._given(file)}
        for role, column in missing:
            if column not in given:
                raise DataError(
                    f"data.columns.{role}: {column!r}: no record of {self._key} has a key of that name; one that some "
                    "of them have is wanted (case counts; a dot leads into an object)"
                )
