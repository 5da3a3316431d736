"""Turns the values of messages into records: JSON objects, or the record itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
from pydantic import Field

from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import SourceBatch, SourceRequest
from pe_beam.errors import RecipeError
from pe_beam.sources.lines import MAX_RECORD, TOO_LONG, Wanted
from pe_beam.sources.objects import ObjectReader
from pe_beam.sources.roles import Roles

NO_VALUE = Fault("message without a value")


class MessageOptions(Options):
    """What a message is."""

    format: Literal["json", "value"] = Field(
        "json",
        description="json: a message is an object whose keys are columns; value: a message is the text, or the picture",
        json_schema_extra={"public": True},
    )


class Messages:
    """Reads the values of messages. A value that is missing, too long, or no object where one is wanted is a fault.

    `format: json`: an object in UTF-8 (`ObjectReader`). `format: value`: the record, a text or a picture's bytes; there
    are no labels and clients then.
    """

    def __init__(self, request: SourceRequest, options: MessageOptions) -> None:
        """Takes what is asked for. Raises RecipeError if the format does not give it."""
        self.roles = Roles.asked(request)
        self._is_json = options.format == "json"
        self._objects = ObjectReader(self.roles, chat=request.chat, noun="message")
        if not self._is_json and (request.labelled or request.client or len(request.content.payload) != 1):
            raise RecipeError(
                "data.options.format: value: a message is the record then, without labels, clients and further "
                "columns; allowed: json"
            )

    def check(self) -> None:
        """Raises DataError if JSON does not give a payload of this kind, such as bytes."""
        if self._is_json:
            self.roles.check(pa.schema([(column, pa.string()) for column in self.roles.columns()]))

    def batch(self, values: Sequence[bytes | Fault | None], rows: list[str]) -> SourceBatch:
        """Returns the records of values, or of faults that a source has found, under their locators."""
        faults = {row: fault for row, value in enumerate(values) if (fault := _fault(value)) is not None}
        kept = [value if isinstance(value, bytes) and row not in faults else None for row, value in enumerate(values)]
        if not self._is_json:
            return self.roles.batch(self._payload(kept), rows, faults)
        wanted = Wanted(self.roles.columns(), None)
        nothing: list[str | None] = [None] * len(wanted.columns)
        texts = []
        for row, value in enumerate(kept):
            found, fault = (nothing, None) if value is None else self._objects.read(value, wanted)
            if fault is not None:
                faults[row] = fault
            texts.append(found if fault is None else nothing)
        arrays = [pa.array([found[at] for found in texts], pa.string()) for at in range(len(wanted.columns))]
        return self.roles.batch(pa.table(arrays, names=wanted.columns), rows, faults, wanted.seen)

    def _payload(self, values: Sequence[bytes | None]) -> pa.Table:
        """Returns the one column of a payload. The content judges texts that are not UTF-8."""
        (field,) = self.roles.content.payload
        (column,) = self.roles.columns()
        array = pa.array(values, pa.binary())
        if pa.types.is_string(field.type):
            array = pa.StringArray.from_buffers(len(array), *array.buffers()[1:], array.buffers()[0], array.null_count)
        return pa.table([array], names=[column])


def _fault(value: bytes | Fault | None) -> Fault | None:
    if value is None:
        return NO_VALUE
    if isinstance(value, Fault):
        return value
    return TOO_LONG if len(value) > MAX_RECORD else None
