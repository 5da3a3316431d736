"""The interface of a language model for the generator `llm`: it takes asks, and gives answers as they come."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pe_beam.modalities.text.words import tokens_of
from pe_beam.services.journal import Journal

Finish = Literal["stop", "length", "filter", "too long", "failed"]
"""Why an answer ended: by itself, without tokens left, by a content filter, by a prompt beyond the context, or because
the service fails on this prompt alone."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question. Two asks with the same content and the same seed have the same key.

    Attributes:
      row: the candidate's place in its chunk; not in the key.
      messages: (role, text); for a plain continuation one ("prompt", text).
      temperature: 0 or more.
      top_p: above 0, to 1.
      max_tokens: largest number of tokens of the answer.
      seed: 0 to 2^31 - 1; drawn from the candidate's stream, so no two asks are the same.
      left_out: which of temperature and top_p are not sent.
      extra: further fields of the request's body, and the model; another value gives another ask.
    """

    row: int
    messages: tuple[tuple[str, str], ...]
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    left_out: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    @cached_property
    def key(self) -> str:
        """A digest of the content of the ask."""
        told: list[Any] = [self.messages, self.temperature, self.top_p, self.max_tokens, self.seed, self.extra]
        told += [self.left_out] if self.left_out else []
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def prompt(self) -> str:
        """All messages as one text, for people: with their roles, unless there is only the user's."""
        if len(self.messages) == 1 and self.messages[0][0] in ("user", "prompt"):
            return self.messages[0][1]
        return "\n".join(f"[{role}] {text}" for role, text in self.messages)

    @property
    def prompt_tokens(self) -> int:
        """A safe estimate of the tokens sent. An account reserves this number until the service reports the true one.

        In nearly all text a token has three bytes or more. Messages have frames, which count as well.
        """
        return sum(len(text.encode()) // 3 + 8 for _, text in self.messages) + 8


@dataclass(frozen=True)
class Answer:
    """The reply to an ask."""

    text: str
    finish: Finish


OnAnswer = Callable[[Ask, Answer], Ask | None]
"""Takes an answer. Returns the ask that replaces it, or None. Only one thread calls it at a time."""


class Client(abc.ABC):
    """A language model, remote or local."""

    @abc.abstractmethod
    def answer_all(self, asks: Iterable[Ask], on_answer: OnAnswer, journal: Journal) -> None:
        """Answers all asks, and what `on_answer` returns, in any order. What is in the journal is not asked again.

        Raises:
          PeBeamError: it cannot go on; the answers that came are settled and in the journal.
        """

    @abc.abstractmethod
    def ready(self) -> None:
        """Raises PeBeamError if it is already clear that nothing will be answered."""


def rough_tokens(text: str) -> int:
    """Returns an estimate of a text's tokens: 4 for 3 words or signs, as in BPE vocabularies of English."""
    return round(len(tokens_of(text)) * 4 / 3)
