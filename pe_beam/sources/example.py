"""Parses `tf.train.Example` by its wire format (protobuf.dev/programming-guides/encoding), without TensorFlow.

An Example holds Features (field 1). Features hold a map (field 1) from a name (field 1) to a Feature (field 2). A
Feature holds a list of bytes (field 1), of floats (field 2) or of integers (field 3). The values are field 1 of a list.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

_VARINT, _EIGHT, _LONG, _FOUR = 0, 1, 2, 5
_MOST_VALUES = 1 << 16
_MOST_FEATURES = 1 << 14

Value = list[bytes] | list[int] | None


class ExampleError(ValueError):
    """The bytes are not an Example."""


def features(data: bytes) -> dict[str, Value]:
    """Returns the features of an Example by name: bytes or integers; None for floats and for a feature without a list.

    Of each list, only the first 65,536 values are returned.

    >>> features(bytes([10, 13, 10, 11, 10, 1, 97, 18, 6, 26, 4, 10, 2, 150, 1]))
    {'a': [150]}

    Raises:
      ExampleError: the bytes are not an Example, or one of more than 16,384 features.
    """
    found: dict[str, Value] = {}
    entries = 0
    for all_of_them in _messages(data, 1):
        for entry in _messages(all_of_them, 1):
            name, feature = b"", b""
            entries += 1
            if entries > _MOST_FEATURES:
                raise ExampleError
            for number, value in _fields(entry):
                if number == 1 and isinstance(value, bytes):
                    name = value
                elif number == 2 and isinstance(value, bytes):
                    feature += value  # a message that comes twice is merged
            try:
                found[name.decode("utf-8")] = _feature(feature)
            except UnicodeDecodeError:
                raise ExampleError from None
    return found


def _feature(data: bytes) -> Value:
    """Returns the list of the kind that comes last, as protobuf reads a oneof."""
    chosen, parts = 0, b""
    for number, value in _fields(data):
        if number in (1, 2, 3) and isinstance(value, bytes):
            parts = parts + value if number == chosen else value
            chosen = number
    if chosen == 1:
        return list(itertools.islice(_messages(parts, 1), _MOST_VALUES))
    return _integers(parts) if chosen == 3 else None


def _integers(data: bytes) -> list[int]:
    """Returns integers that are stored packed or one by one."""
    found: list[int] = []
    for number, value in _fields(data):
        if number != 1 or len(found) >= _MOST_VALUES:
            continue
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        position = 0
        while position < len(value) and len(found) < _MOST_VALUES:
            one, position = _varint(value, position)
            found.append(_signed(one))
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _messages(data: bytes, wanted: int) -> Iterator[bytes]:
    for number, value in _fields(data):
        if number == wanted and isinstance(value, bytes):
            yield value


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yields (number, content) of the fields of a message. Skips numbers of fixed size."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _LONG:
            size, position = _varint(data, position)
        elif wire in (_EIGHT, _FOUR):
            size = 8 if wire == _EIGHT else 4
        else:
            raise ExampleError
        if not number or size > len(data) - position:
            raise ExampleError
        if wire == _LONG:
            yield number, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number of seven bits per byte, the lowest first. Returns it and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
    raise ExampleError
