"""CelebA: aligned faces, and `list_attr_celeba.txt` with forty attributes of each."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from pe_beam import names as spelling
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import DataError, RecipeError
from pe_beam.sources import files
from pe_beam.sources.lines import MAX_RECORD, NOT_UTF8, TOO_LONG, LineReader, LinesSource, Record, Wanted
from pe_beam.sources.listed import NO_NAME, NO_SPLIT, Listed, ListedSource
from pe_beam.sources.pictures import need_images, split_of
from pe_beam.sources.roles import Roles

_FILE = "file"
_TABLE = FieldContent(pa.schema([(_FILE, pa.string())]))
_SPLITS = {"train": "0", "valid": "1", "test": "2"}
_VALUES = {"1": "1", "-1": "0", "0": "0"}
_SIDE_BYTES = 64 << 20
_NOT_A_ROW = Fault("row with a wrong number of fields")
_NO_VALUE = Fault("attribute that is neither 1 nor -1")


class AttributeLines(LinesSource):
    """`list_attr_celeba.txt`: its lines are the number of rows, the names of attributes, and then the records.

    A record is the name of a file, and 1 or -1 for each attribute. The attribute `Male` has the values Male_1 and
    Male_0. Every newline ends a record.
    """

    endings = (".txt",)
    kind = "CelebA"

    @classmethod
    def open(cls, request: SourceRequest) -> AttributeLines:
        """See Source."""
        return cls(request.path, Roles.asked(request))

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source. Raises DataError if the number of rows differs from the one in the first line."""
        super().check_pieces(pieces)
        with files.explained(self._key, pieces[-1].file), files.open_file(pieces[-1].file) as handle:
            declared = _count(LineReader(handle).read())
        if declared != pieces[-1].stop:
            raise DataError(
                f"{self._key}: list_attr_celeba.txt there is cut short or damaged: it has not as many rows as its "
                "first line says"
            )

    def _head(self, lines: LineReader) -> tuple[bytes, list[str]]:
        first, second = lines.read(), lines.read()
        names = second.decode("utf-8", "replace").split()
        if _count(first) is None or not names or len(second) > MAX_RECORD:
            raise DataError(
                f"{self._key}: list_attr_celeba.txt there does not begin with a line with the number of rows and one "
                "with the names of attributes"
            )
        return first + second, [_FILE, *names]

    def _records(self, lines: LineReader, wanted: Wanted) -> Iterator[Record]:
        names = wanted.head or []
        where = [(names.index(column), column) for column in wanted.columns if column in names]
        while line := lines.read():
            if line.isspace():
                continue
            record = Record(lines.position, len(line))
            if len(line) > MAX_RECORD:
                record.fault = TOO_LONG
            elif wanted.columns:
                record.values, record.fault = _values(line, where, len(names))
            yield record


def _values(line: bytes, where: Sequence[tuple[int, str]], width: int) -> tuple[list[str | None], Fault | None]:
    try:
        fields = line.decode("utf-8").split()
    except UnicodeDecodeError:
        return [], NOT_UTF8
    if len(fields) != width:
        return [], _NOT_A_ROW
    if any(place and fields[place] not in _VALUES for place, _ in where):
        return [], _NO_VALUE
    return [f"{name}_{_VALUES[fields[place]]}" if place else fields[place] for place, name in where], None


def _count(line: bytes) -> int | None:
    return int(line) if line.strip().isdigit() else None


class CelebaSource(ListedSource):
    """Faces that the rows of `list_attr_celeba.txt` name.

    `list_eval_partition.txt` gives the splits `FOLDER#train`, `#valid` and `#test`. The label is the attribute that
    `data.columns.label` names, or several. The client is the person that `identity_CelebA.txt` gives.
    """

    takes = frozenset({"columns", "client"})  # not never_stop: the first line counts the others

    @classmethod
    def open(cls, request: SourceRequest) -> CelebaSource:
        """See Source."""
        need_images(request, "celeba")
        path, split = split_of(request.path, tuple(_SPLITS), request.key)
        unknown = sorted(set(request.columns) - {"label"})
        if unknown:
            raise RecipeError(f"data.columns: source celeba has a label alone, not {', '.join(unknown)}")
        if request.labelled and "label" not in request.columns:
            raise RecipeError("data.columns.label: missing; the name of an attribute is wanted, such as Male")
        roles = Roles.of(
            _TABLE, request.columns, labelled=request.labelled, client=False, key=request.key, labels=request.labels
        )
        return cls(path, split, roles, client=request.client)

    def __init__(self, path: str, split: str | None, roles: Roles, *, client: bool) -> None:
        super().__init__(roles.key)
        self._root = path.rstrip("/") or "/"
        self._split = split
        self._roles = roles
        self._client = client

    @functools.cached_property
    def _rows(self) -> AttributeLines:
        return AttributeLines(self._place("list_attr_celeba.txt", "Anno"), self._roles)

    def pieces(self) -> list[Piece]:
        """See Source."""
        return self._rows.pieces()

    def _table(self, piece: Piece) -> Source:
        return self._rows

    def _any_table(self) -> Source:
        return self._rows

    def _folder(self, piece: Piece) -> str:
        return self._place("img_align_celeba", "Img")

    def _listed(self, batch: SourceBatch) -> Listed:
        names = [name or NO_NAME for name in batch.payload[_FILE].to_pylist()]
        here = list(range(len(names)))
        if self._split is not None:
            splits = self._beside("list_eval_partition.txt", "Eval")
            mine = (None, _SPLITS[self._split])  # a file in no split is a reject in every split
            here = [i for i in here if splits.get(names[i]) in mine]
            names = [name if name in splits else NO_SPLIT for name in names]
        people = self._beside("identity_CelebA.txt", "Anno") if self._client else {}
        clients = [people.get(names[i]) for i in here]
        return Listed(here, [names[i] for i in here], [batch.labels[i] for i in here], clients)

    def _place(self, name: str, folder: str) -> str:
        """Returns the path in the original archive's folder if it is there, else the path directly below the root."""
        apart = f"{self._root}/{folder}/{name}"
        with files.explained(self._key, self._root):
            return apart if files.exists(apart) else f"{self._root}/{name}"

    def _beside(self, name: str, folder: str) -> Mapping[str | Fault, str]:
        path = self._place(name, folder)
        with files.explained(self._key, path):
            if not files.exists(path):
                raise DataError(f"{self._key}: {name} is not there; it is wanted beside list_attr_celeba.txt")
            found = _pairs(path, files.stamp(path))
        if found is None:
            raise DataError(f"{self._key}: {name} there is damaged; lines of a file's name and a number are wanted")
        return found


@functools.lru_cache(maxsize=4)
def _pairs(path: str, stamp: object) -> dict[str | Fault, str] | None:
    """Reads lines of a name and a number, each name once; None: other content, or over 64 MiB."""
    if files.size(path) > _SIDE_BYTES:
        return None
    with files.open_file(path) as handle:
        lines = [line.split() for line in handle.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if any(len(line) != 2 or not line[1].isdigit() for line in lines):
        return None
    found: dict[str | Fault, str] = {name: spelling.number_or_text(number) for name, number in lines}
    return found if len(found) == len(lines) else None
