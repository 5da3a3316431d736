"""The states of candidates. With several generators one has the name of its maker, and the maker's own state."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from pe_beam.errors import StageError

_STATE = re.compile(r'\{"maker":"([a-z][a-z0-9-]*)","state":(.*)\}', re.DOTALL)


def with_maker(maker: str, state: str | None) -> str:
    """Returns a state that contains the maker's name and its own state (JSON text, or None), byte for byte.

    >>> with_maker("letters", '{"size": 1.50}'), with_maker("paint", None)
    ('{"maker":"letters","state":{"size": 1.50}}', '{"maker":"paint","state":null}')
    """
    return f'{{"maker":"{maker}","state":{"null" if state is None else state}}}'


def without_maker(state: str | None) -> tuple[str, str | None]:
    """Returns (maker, its own state) from a result of `with_maker`.

    Raises:
      StageError: the state names no maker.

    >>> without_maker('{"maker":"letters","state":{"size": 1.50}}')
    ('letters', '{"size": 1.50}')
    """
    found = _STATE.fullmatch(state or "")
    if found is None:
        raise StageError("population: a candidate's state does not name its maker; restore the release")
    own = found.group(2)
    return found.group(1), None if own == "null" else own


def with_states(table: pa.Table, states: Sequence[str | None]) -> pa.Table:
    """Returns candidates with other states, one a row, in the place of the column `state`."""
    place = table.schema.get_field_index("state")
    return table.set_column(place, "state", pa.array(states, pa.string()))
