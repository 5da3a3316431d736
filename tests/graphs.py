"""What a graph holds, as a runner's console could show it."""

from __future__ import annotations

import bz2
import contextlib
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator


def unpacked(data: bytes) -> Iterator[bytes]:
    """Bytes, and all that is packed in them: Beam writes pickles as base64 of bz2 or zlib."""
    yield data
    for start in re.finditer(rb"QlpoO|eN", data):
        packed = re.match(rb"[A-Za-z0-9+/]*", data[start.start() :])
        assert packed is not None
        plain = b64decode(packed[0][: len(packed[0]) // 4 * 4])
        with contextlib.suppress(OSError, EOFError, zlib.error):
            machine = bz2.BZ2Decompressor() if start[0] == b"QlpoO" else zlib.decompressobj()
            yield from unpacked(machine.decompress(plain))
