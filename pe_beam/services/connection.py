"""What a client library has to be for the dispatcher: one call to one endpoint, and how it fails."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Number of tokens of a call."""

    input_tokens: int
    output_tokens: int


class TransientError(Exception):
    """A transient error of the service.

    Attributes:
      kind: a fixed phrase.
      wait: the pause in seconds that the service asks for, or None.
      billed: whether the service may have done the work. The call then counts with its largest possible cost.
      sent: False if the call never reached the service.
      unrecognised: whether the answer may come from something that is not such a service. If no valid answer ever
        came from there, the address is refused.
      paced: whether the service has only asked for fewer calls, or for this one later.
    """

    def __init__(
        self,
        kind: str,
        *,
        wait: float | None = None,
        billed: bool = False,
        sent: bool = True,
        unrecognised: bool = False,
        paced: bool = False,
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.wait = wait
        self.billed = billed
        self.sent = sent
        self.unrecognised = unrecognised
        self.paced = paced

    @property
    def may_be_of_the_ask(self) -> bool:
        """Returns whether the service may fail on this ask alone."""
        return self.sent and not self.paced and self.wait is None

    def said(self) -> str:
        """Returns the kind, and how long the service asks to wait."""
        return self.kind if not self.wait else f"{self.kind}; it asks to wait {math.ceil(self.wait):.10g} s"


class Connection(abc.ABC):
    """A connection to one endpoint through a client library."""

    @abc.abstractmethod
    async def send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        """Makes one call.

        Raises:
          TransientError: a transient error.
          RefusedError, SpentError: a permanent error; the service did no work.
          PeBeamError: a permanent error; the service may have done the work.
        """

    @abc.abstractmethod
    async def probe(self) -> None:
        """Checks at no cost that the endpoint answers and accepts its key. Raises the same errors as `send`."""

    async def close(self) -> None:  # noqa: B027
        """Ends what it keeps open. No call is in flight."""
