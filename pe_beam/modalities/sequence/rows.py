"""Sequences as rows of events, as `export` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.modalities.sequence.events import read_payload
from pe_beam.modalities.sequence.schema import EVENTS, GAP, KIND, SequenceSchema

CLIENT, POSITION, MIDDLE = "client", "position", "gap_middle"


def unfold(samples: pa.Table, columns: Mapping[str, Any], schema: SequenceSchema) -> pa.Table:
    """Returns a row an event: a number for the client, the event's position, kind, gap and attributes.

    Other columns of `samples`, such as a label, are those of each of its events.

    The client, kinds and attributes have the names that `data.columns` gives them. Clients count from 1 on and are no
    one's ids. `gap` is the name of a bin, and `gap_middle` its middle, in the unit of the declared edges; both are null
    for a first event. Events have no times: what is known is how long after one another they come.
    """
    found = read_payload(samples, schema)
    names = [field.name for field in schema.event_fields]
    events = samples[EVENTS].combine_chunks().flatten().flatten()
    fields = dict(zip(names, events, strict=True))
    middles = np.array(schema.gaps.middles)[np.maximum(found.gaps, 0)]
    made: dict[str, Any] = {
        str(columns.get(CLIENT, CLIENT)): pa.array(found.owners + 1, pa.int64()),
        POSITION: pa.array(np.arange(len(found.owners)) - found.starts[found.owners] + 1, pa.int64()),
        str(columns.get(KIND, KIND)): fields[KIND],
        GAP: fields[GAP],
        MIDDLE: pa.array(middles, pa.float64(), mask=found.gaps < 0),
    }
    made |= {str(columns.get(name, name)): fields[name] for name in schema.attributes}
    owners = pa.array(found.owners)
    made |= {name: samples[name].take(owners) for name in samples.column_names if name != EVENTS}
    return pa.table(made)
