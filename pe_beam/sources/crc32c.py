"""CRC-32C (Castagnoli; RFC 3720, section 12.1), many bytes at a time with NumPy.

A CRC is linear over exclusive or. So what a byte adds depends only on its value and on its distance from the end. The
remainder of a block is the exclusive or of one table entry per byte. The state before a block is combined with the
first four bytes of the block.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78
_BLOCK = 1024
_AT_A_TIME = 512


@functools.cache
def _tables() -> np.ndarray:
    """Returns uint32 (_BLOCK, 256): what a byte adds, by its place in the block and its value."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ (table & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    places = np.empty((_BLOCK, 256), np.uint32)
    places[-1] = table
    for place in range(_BLOCK - 2, -1, -1):
        after = places[place + 1]
        places[place] = after >> 8 ^ table[after & 0xFF]
    return places


def crc32c(data: bytes) -> int:
    """Returns the checksum of `data`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    tables = _tables()
    state = 0xFFFFFFFF
    whole = len(data) // _BLOCK
    offsets = np.arange(_BLOCK, dtype=np.intp) * 256
    blocks = np.frombuffer(data, np.uint8, whole * _BLOCK).reshape(whole, _BLOCK)
    rows = [tables[place].tolist() for place in range(4)] if whole else []
    for first in range(0, whole, _AT_A_TIME):
        some = blocks[first : first + _AT_A_TIME]
        added = np.bitwise_xor.reduce(tables.ravel().take(some + offsets), axis=1)
        for own in added.tolist():
            state = (
                own
                ^ rows[0][state & 0xFF]
                ^ rows[1][state >> 8 & 0xFF]
                ^ rows[2][state >> 16 & 0xFF]
                ^ rows[3][state >> 24]
            )
    rest = bytearray(data[whole * _BLOCK :])
    if len(rest) >= 4:
        for place in range(4):
            rest[place] ^= state >> 8 * place & 0xFF
        at = np.arange(_BLOCK - len(rest), _BLOCK)
        state = int(np.bitwise_xor.reduce(tables[at, np.frombuffer(rest, np.uint8)]))
    else:
        for byte in rest:
            state = state >> 8 ^ int(tables[-1, (state ^ byte) & 0xFF])
    return state ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """Returns the checksum in the form that TFRecord files store: rotated right by 15 bits, plus a constant.

    >>> masked(b"")
    2726488792
    """
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
