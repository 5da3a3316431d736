"""Refuses windows and triggers where all records of a privacy unit have to come together once."""

from __future__ import annotations

import apache_beam as beam

from pe_beam.errors import InputError


def demand_one_window(found: beam.PCollection, who: str) -> None:
    """Refuses a PCollection whose elements Beam would group in several windows or panes.

    A client's votes would be bounded in each of them alone, and an element of sliding windows would count in each.

    Args:
      found: what is to be grouped as a whole.
      who: what the message begins with.

    Raises:
      InputError: it has windows or a trigger of its own, or is unbounded.
    """
    if not (found.windowing.is_default() and found.is_bounded):
        raise InputError(
            f"{who}: records in windows, with a trigger or without an end, where a client's would be bounded window by "
            "window; bounded ones in the global window with its default trigger are wanted (streams: docs/streams.md)"
        )
