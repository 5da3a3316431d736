"""Recognises the format of a file by its first bytes, so that a message can say why it cannot be read as text."""

from __future__ import annotations

import csv

from pe_beam.errors import DataError
from pe_beam.sources import finding

HEAD = 1 << 16
"""Number of bytes at the start of a file that are examined."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x1f\x9d", "compress"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xff\x06\0\0sNaPpY", "snappy"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"PK\x03\x04", "zip"),
)
ENCODINGS = "files of another encoding want data.encoding, such as cp1252 (Windows in Western Europe) or cp932 (Japan)"
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")


def packed(head: bytes, name: str) -> str | None:
    """Returns how a file is compressed; None: it is not.

    Its first bytes decide. If they are not text, its ending may decide.
    """
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    known = next((kind for magic, kind in _PACKED if head.startswith(magic)), None)
    if known or not name.lower().endswith(finding.PACKED):
        return known
    try:
        head[: HEAD - 4].decode("utf-8")
    except UnicodeDecodeError:
        return name.rpartition(".")[2].lower()
    return None


def refuse(head: bytes, name: str, key: str, kind: str) -> None:
    """Refuses a file that cannot be read directly as UTF-8 text of records.

    Args:
      head: the first `HEAD` bytes of the file.
      name: its name; only its ending is used.
      key: the recipe key that messages name.
      kind: CSV or JSONL.

    Raises:
      DataError: the file is compressed, a workbook, Parquet, UTF-16 or UTF-32, or its lines end in CR alone.
    """
    what = f"{key}: a {kind} file there"
    compressed = packed(head, name)
    if compressed:
        more = ", or a workbook of Excel" if compressed == "zip" else ""
        raise DataError(f"{what} is compressed ({compressed}{more}); unpack it first")
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise DataError(f"{what} is a workbook of Excel; {kind} is wanted: save it as that")
    if head.startswith(b"PAR1"):
        raise DataError(f"{what} is Parquet; data.source: parquet reads it")
    if head.startswith(_WIDE) or 4 * head[:1000].count(0) > len(head[:1000]) > 0:
        raise DataError(
            f"{what} is UTF-16 or UTF-32; UTF-8 is wanted: iconv -f UTF-16 -t UTF-8 OLD > NEW writes it anew"
        )
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        raise DataError(f"{what} has lines that end in CR alone; LF or CR LF is wanted: write the file anew")


def guess_separator(line: str) -> str:
    """Returns the separator that splits a header into the most names; a comma unless another one gives more.

    >>> guess_separator("name;amount, in euro;day")
    ';'
    """
    return max(SEPARATORS, key=lambda sign: len(next(csv.reader([line], delimiter=sign), [])))
