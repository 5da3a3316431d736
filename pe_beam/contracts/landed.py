"""The files that `pipelines/land.py` writes: messages as they arrive, with the position and the stamp of their source.

They lie in `slot=START_SECONDS/NAME.parquet`; all messages of a file are stamped within its slot.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from pe_beam.contracts.stream import Span

POSITION, STAMP, VALUE = "_position", "_stamp", "_value"
SCHEMA = pa.schema([(POSITION, pa.string()), (STAMP, pa.timestamp("us", tz="UTC")), (VALUE, pa.binary())])
"""Columns of a file: the message's id at its source, the instant that the source gave it, and its bytes."""
FILE_ROWS = 8192
"""Largest number of messages of a file."""
_NAME = re.compile(r"slot=(\d{8}T\d{6})Z_([1-9]\d{0,7})")
_FORM = "%Y%m%dT%H%M%S"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def slot_of(stamp: datetime, seconds: int) -> Span:
    """Returns the slot of an instant: slots follow each other from 1970 on.

    >>> slot_of(datetime(2026, 12, 1, 5, 17, tzinfo=UTC), 3600).start
    datetime.datetime(2026, 12, 1, 5, 0, tzinfo=datetime.timezone.utc)
    """
    length = timedelta(seconds=seconds)
    start = _BEGINNING + (stamp - _BEGINNING) // length * length
    return Span(start, start + length)


def slot_name(slot: Span) -> str:
    """Returns the folder of a slot.

    >>> slot_name(slot_of(datetime(2026, 12, 1, 5, 17, tzinfo=UTC), 3600))
    'slot=20261201T050000Z_3600'
    """
    return f"slot={slot.start:{_FORM}}Z_{int((slot.stop - slot.start).total_seconds())}"


def parse_slot(name: str) -> Span | None:
    """Returns the slot of a folder; None: it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        start = datetime.strptime(found[1], _FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
    slot = Span(start, start + timedelta(seconds=int(found[2])))
    return slot if slot == slot_of(start, int(found[2])) else None
