"""Turns the answers of one chunk into candidates: texts, rejected answers, and stand-ins by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from pe_beam.errors import UnusableError
from pe_beam.modalities.text.cleaning import clean, fault
from pe_beam.modalities.text.client import Answer
from pe_beam.modalities.text.options import LlmOptions


class Rows:
    """The rows of one chunk: for each row its drawn variables, its text and its rejected answers."""

    def __init__(self, options: LlmOptions, parents: Sequence[str | None]) -> None:
        count = len(parents)
        self._options = options
        self._parents = parents
        self.texts: list[str | None] = [None] * count
        self.attempts = [0] * count
        self.chosen: list[dict[str, str]] = [{} for _ in range(count)]
        self._rejected: list[list[str]] = [[] for _ in range(count)]
        self._stand_ins: set[int] = set()

    def judge(self, row: int, answer: Answer) -> bool:
        """Takes an answer. Returns True if the row must be asked again."""
        cleaning = self._options.cleaning
        text, kind = fault(clean(answer.text, cleaning), finish=answer.finish, options=cleaning)
        parent = self._parents[row]
        if kind is None and cleaning.duplicates and parent is not None and text == parent:
            kind = "duplicate"
        if kind is None:
            self.texts[row] = text
            return False
        # The service was asked again and again already, and each time takes its whole patience.
        return self._reject(row, kind) and answer.finish != "failed"

    def _reject(self, row: int, kind: str) -> bool:
        self._rejected[row].append(kind)
        self.texts[row] = None
        self.attempts[row] += 1
        return self.attempts[row] <= self._options.reasks

    def repeated(self) -> list[int]:
        """Returns rows whose text an earlier row of the chunk has. They must be asked again, after all have answered.

        The order of rows decides, and not the order of answers. The last attempt of a random row stays.
        """
        again: list[int] = []
        if not self._options.cleaning.duplicates:
            return again
        seen: set[str] = set()
        for row, text in enumerate(self.texts):
            if text is None:
                continue
            if text in seen:
                if self._reject(row, "duplicate"):
                    again.append(row)
                elif self._parents[row] is None:
                    self.texts[row] = text
            else:
                seen.add(text)
        return again

    def stand_in(self, labels: Sequence[str | None], keys: Sequence[int], *, forget: Callable[[], None]) -> None:
        """Fills rows that have no text: with the parent's text; a random row with the text of another row.

        The other row has the same label if possible.

        Raises:
          UnusableError: no answer of a whole random chunk could be used.
        """
        good = [row for row, text in enumerate(self.texts) if text is not None]
        for row, text in enumerate(self.texts):
            if text is not None:
                continue
            self._stand_ins.add(row)
            if self._parents[row] is not None:
                self.texts[row] = self._parents[row]
                continue
            own = [other for other in good if labels[other] == labels[row]] or good
            if not own:
                forget()
                kinds = sorted({kind for each in self._rejected for kind in each})
                more = ", with more sampling.max_tokens where the model reasons first" if "empty" in kinds else ""
                raise UnusableError(
                    f"generator: no answer of {len(self.texts)} could be used ({', '.join(kinds)}); look at "
                    f"generator.random, generator.cleaning and the model{more}"
                )
            self.texts[row] = self.texts[own[keys[row] % len(own)]]

    def states(self) -> list[str | None]:
        """Returns the state of each row: variables, rejected answers by kind, and whether another text stands in."""
        states = []
        for row, chosen in enumerate(self.chosen):
            state: dict[str, Any] = {}
            if chosen:
                state["variables"] = chosen
            if self._rejected[row]:
                state["rejected"] = self._rejected[row]
            if row in self._stand_ins:
                state["stand_in"] = True
            states.append(json.dumps(state, sort_keys=True, separators=(",", ":")) if state else None)
        return states
