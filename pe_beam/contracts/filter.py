"""The contract of a filter, which says which candidates may enter a population.

A filter sees synthetic candidates alone, and so costs nothing of the budget, as long as it was made without private
data: its patterns, thresholds, prompts and models are declared, or come from public sources.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pe_beam.contracts.generator import Chunk
from pe_beam.contracts.options import Options
from pe_beam.contracts.service import Surroundings

_OWN = re.compile(r'\{"filtered":\[[^]]*\],"stand_in":(?:true|false),"state":(.*)\}', re.DOTALL)
_OF_MAKER = re.compile(r'(\{"maker":"[a-z][a-z0-9-]*","state":)(.*)\}', re.DOTALL)


class Filter(abc.ABC):
    """Says of each candidate whether it passes."""

    Options: ClassVar[type[Options]]
    remote: ClassVar[bool] = False
    """True if candidates are sent to a service outside this machine."""

    @abc.abstractmethod
    def __init__(self, options: BaseModel, *, payload: pa.Schema, labels: Sequence[str | None]) -> None:
        """Checks the options against the payload's columns and the declared labels. Raises RecipeError."""

    @abc.abstractmethod
    def passing(
        self, candidates: pa.Table, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> Sequence[bool]:
        """Returns whether each candidate passes.

        Args:
          candidates: columns `label` and the payload.
          rngs: one a candidate; all randomness comes from them.
          chunk: its journal keeps answers that have been paid for until the chunk is committed.
        """

    def attach(self, surroundings: Surroundings) -> None:  # noqa: B027
        """Receives the run that it works in. It is called once, before other methods. Raises RecipeError."""

    def ready(self) -> None:  # noqa: B027
        """Raises PeBeamError if anything that it needs is missing. The driver calls it before budget is spent."""

    def expected_tokens(self) -> tuple[int, int] | None:
        """Returns tokens (sent, received) of the call that each candidate costs; None: it costs no call."""
        return None


def with_filters(kinds: Sequence[str], state: str | None, *, stand_in: bool) -> str | None:
    """Returns a state that also says which filters rejected earlier attempts; the state itself if none did.

    >>> with_filters([], None, stand_in=False)
    >>> with_filters(["length"], '{"size": 1}', stand_in=False)
    '{"filtered":["length"],"stand_in":false,"state":{"size": 1}}'
    """
    if not kinds:
        return state
    named = ",".join(f'"{kind}"' for kind in kinds)
    return f'{{"filtered":[{named}],"stand_in":{"true" if stand_in else "false"},"state":{state or "null"}}}'


def without_filters(state: str | None) -> str | None:
    """Returns the generator's own state from a result of `with_filters`, also inside a maker's state.

    >>> without_filters('{"filtered":["length"],"stand_in":false,"state":{"size": 1}}')
    '{"size": 1}'
    >>> without_filters('{"maker":"one","state":{"filtered":["length"],"stand_in":true,"state":null}}')
    '{"maker":"one","state":null}'
    """
    maker = _OF_MAKER.fullmatch(state or "")
    if maker is not None:
        return f"{maker[1]}{without_filters(maker[2]) or 'null'}}}"
    found = _OWN.fullmatch(state or "")
    if found is None:
        return state
    return None if found[1] == "null" else found[1]
