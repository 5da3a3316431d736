"""What a language model is to the generator `llm`: asks in, answers out, as they come."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pe_beam.modalities.text.prompts import tokens_of
from pe_beam.services.journal import Journal

Finish = Literal["stop", "length", "filter", "too long"]
"""Why an answer ended: by itself, out of tokens, refused by a content filter, or a prompt beyond the context."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question. The same question with the same seed is the same ask, whoever makes it.

    Attributes:
      row: the candidate's place in its chunk; not part of what is asked.
      attempt: 0, and one more each time that an answer was rejected; not part of what is asked.
      messages: (role, text); of a plain continuation one ("prompt", text).
      temperature: 0 or more.
      top_p: above 0, to 1.
      max_tokens: most tokens of the answer.
      seed: 0 to 2^31 - 1; drawn from the candidate's stream, so no two asks are the same.
      left_out: which of temperature and top_p are not sent.
      extra: further fields of the request's body, and the model: a change of them is another ask.
    """

    row: int
    attempt: int
    messages: tuple[tuple[str, str], ...]
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    left_out: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @cached_property
    def key(self) -> str:
        """A digest of all that is asked."""
        told: list[Any] = [self.messages, self.temperature, self.top_p, self.max_tokens, self.seed, self.extra]
        told += [self.left_out] if self.left_out else []
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def prompt_tokens(self) -> int:
        """A safe guess of the tokens sent: a token is three bytes or more in nearly all text, and messages have frames.

        It is what an account sets aside until the service has said the true number.
        """
        return sum(len(text.encode()) // 3 + 8 for _, text in self.messages) + 8


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    finish: Finish


OnAnswer = Callable[[Ask, Answer], Ask | None]
"""Takes an answer; returns what to ask in its place, or None. Called on one thread at a time."""


class Client(abc.ABC):
    """A language model, remote or local."""

    @abc.abstractmethod
    def answer_all(self, asks: Iterable[Ask], on_answer: OnAnswer, journal: Journal) -> None:
        """Answers all asks, and what `on_answer` returns, in any order; nothing that is in the journal is asked again.

        Raises:
          PeBeamError: it cannot go on; answers that came are settled and in the journal.
        """

    @abc.abstractmethod
    def ready(self) -> None:
        """Raises PeBeamError where it is already clear that nothing will be answered."""


def rough_tokens(text: str) -> int:
    """Tokens of a text for an estimate: 4 for 3 words or signs, as BPE vocabularies of English have it."""
    return round(len(tokens_of(text)) * 4 / 3)
