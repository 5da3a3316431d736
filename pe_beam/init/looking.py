"""Reads names and types of private data, only if the data holder allows it. It reads no value and counts no row."""

from __future__ import annotations

import codecs
import csv
import io
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam import names
from pe_beam.contracts.asking import Seen
from pe_beam.errors import DataError
from pe_beam.sources import files, finding, forms
from pe_beam.sources.folder import is_beside

_HEADER = 1 << 20


NOTHING = Seen({}, [])
SEEN = ("folder", "parquet", "csv", "imagefolder")
"""Sources of which `look` sees something."""
PICTURES = ("folder", "camelyon", "celeba", "cifar", "dicom", "imagefolder", "mnist", "tfrecord", "webdataset")
"""Sources of pictures."""
TABLES = ("csv", "jsonl", "parquet")
"""Kinds of files that may list pictures."""


def guess_source(path: str, modality: str | None = None) -> str:
    """Returns the kind of files of a path, by its name alone, and by what a record is, if that is said.

    >>> guess_source("scans/labels.csv"), guess_source("scans/labels.csv", "image")
    ('csv', 'imagefolder')
    """
    name = Path(path.rstrip("/*")).name.lower().removesuffix(".gz")
    known = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    known |= {".tar": "webdataset", ".tfrecord": "tfrecord", ".tfrecords": "tfrecord"}
    if "ubyte" in name:  # train-images-idx3-ubyte
        return "mnist"
    kind = known.get(Path(name).suffix, "folder")
    return "imagefolder" if modality == "image" and kind in ("csv", "jsonl") else kind  # no pictures lie in a text


def look(path: str, source: str, encoding: str = "utf-8") -> Seen:
    """Returns column names and types of the first file, or the names of class folders and of tables beside pictures.

    `encoding` is that of CSV.

    Raises:
      DataError: no such file exists, or it cannot be read.
    """
    if source == "folder":
        return _look_at_pictures(path)
    if source == "imagefolder":  # a table that lists pictures, or a folder with one
        first = _table_of(path)
        source = guess_source(first)
    else:
        first = path if source == "jsonl" else _first_file(path, source)
    if source == "jsonl":
        return NOTHING
    with files.explained("data.path", first), files.open_file(first) as handle:
        if source == "csv":
            line = handle.readline(_HEADER)
            forms.refuse(line, first, "data.path", "CSV")
            cells, separator = _header(line, encoding)
            return Seen(dict.fromkeys(cells, pa.string()), [], separator)
        try:
            schema = pq.read_schema(handle)
        except pa.ArrowException:
            raise DataError("data.path: the first file is no Parquet file, or a damaged one") from None
    return Seen(dict(zip(schema.names, schema.types, strict=True)), [])


def _look_at_pictures(path: str) -> Seen:
    if files.is_local(path) and not Path(path).is_dir():
        raise DataError(f"data.path: {path!r} is not there or no folder; a folder is wanted")
    with files.explained("data.path", path):
        below = finding.list_below(path)
    pictures = [name for name in below if _may_be(name)]
    tables = [name for name in below if guess_source(name) in TABLES]
    if tables and not pictures:
        kind = guess_source(tables[0])
        raise DataError(
            f"data.path: no pictures lie below {path}, but {kind} files: --source {kind} reads one table, "
            "--modality relational two of them with a key"
        )
    folders = {names.plain(name.split("/", 1)[0]) for name in pictures if "/" in name}
    return Seen({}, sorted(folders), tables=sorted(names.plain(name) for name in tables))


def _table_of(path: str) -> str:
    """Returns the table that lists the pictures of source `imagefolder`."""
    if guess_source(path) in TABLES:
        return path
    with files.explained("data.path", path):
        found = [name for name in finding.list_below(path) if name.rpartition("/")[2].startswith("metadata.")]
    if not found:
        raise DataError(
            "data.path: no metadata.csv, .jsonl or .parquet there; a table of another name is named itself, "
            "FOLDER/labels.csv"
        )
    return f"{path.rstrip('/')}/{found[0]}"


def _first_file(path: str, source: str) -> str:
    with files.explained("data.path", path):
        if files.is_local(path) and Path(path).is_dir():
            found = [f"{path.rstrip('/')}/{name}" for name in finding.list_below(path) if name.endswith(f".{source}")]
        else:
            found = [name for name, _ in finding.match(path)]
    if not found:
        raise DataError(f"data.path: no {source} files there; a file, a folder or a glob is wanted")
    return found[0]


def _may_be(name: str) -> bool:
    """Returns whether a file may be a picture, by its name."""
    return not is_beside(name) and not name.lower().endswith(finding.PACKED + finding.ARCHIVES)


def _header(data: bytes, encoding: str) -> tuple[list[str], str]:
    """Returns the cells of the first line and their separator.

    Raises:
      DataError: the line is no header. Cells that look like values are refused, because they may be a record.
    """
    try:
        line = data.removeprefix(codecs.BOM_UTF8).decode(encoding)
        separator = forms.guess_separator(line)
        cells = next(csv.reader(io.StringIO(line), delimiter=separator), [])
    except (UnicodeDecodeError, csv.Error):
        raise DataError(
            f"data.path: the first line of the CSV file is no header in {encoding}; {forms.ENCODINGS} (--set "
            "data.encoding=cp1252)"
        ) from None
    if not cells or len(set(cells)) < len(cells) or any(_is_value(cell) for cell in cells):
        raise DataError("data.path: the first line of the CSV file is no header; names, each once, are wanted")
    return cells, separator


def _is_value(cell: str) -> bool:
    for parse in (float, datetime.fromisoformat):
        try:
            parse(cell)
        except ValueError:
            continue
        return True
    return not cell.strip()
