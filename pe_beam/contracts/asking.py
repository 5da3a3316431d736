"""Answers from flags, from a person at a terminal, or by default; one interface for whoever asks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import pyarrow as pa

from pe_beam.errors import InputError


@dataclass
class Asker:
    """Asks for what no flag has answered.

    Attributes:
      given: key -> answer, as flags give it.
      interactive: whether a person answers; if not, a default counts, and what has none is an error.
      source: where answers are read.
      sink: where questions are written.
      flags: key -> the flag that answers it, for messages; others are answered by `--set key=value`.
      asked: the keys asked for so far.
      remarks: key -> a comment that the recipe gets above it.
    """

    given: Mapping[str, Any]
    interactive: bool
    source: TextIO = field(default_factory=lambda: sys.stdin)
    sink: TextIO = field(default_factory=lambda: sys.stderr)
    flags: Mapping[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    remarks: dict[str, str] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Tells a person something; nobody, if no person answers."""
        if self.interactive:
            print(text, file=self.sink)

    def warn(self, text: str) -> None:
        """Tells what must not be missed, whoever answers."""
        print(f"init: {text}", file=self.sink)

    def ask(
        self,
        key: str,
        question: str,
        *,
        parse: Callable[[str], Any] = str,
        default: Any = None,
        choices: Sequence[str] = (),
        optional: bool = False,
    ) -> Any:
        """One answer.

        Args:
          key: what is asked for, as a recipe's dotted key where it has one.
          question: one line, without the mark.
          parse: text -> answer; a ValueError is told and, of a person, asked again.
          default: the answer to nothing.
          choices: the only answers, if there are any.
          optional: nothing is an answer too: None.

        Raises:
          InputError: a wrong or missing answer, and nobody to ask again.
        """
        self.asked.add(key)
        if key in self.given:
            return self._checked(key, self.given[key], parse, choices)
        if not self.interactive:
            if default is not None or optional:
                return default
            raise InputError(f"init: {self._flag(key)} is missing ({question})")
        hint = f" ({', '.join(choices)})" if choices else ""
        shown = f" [{default}]" if default is not None else " [none]" if optional else ""
        while True:
            print(f"{question}{hint}{shown}: ", end="", file=self.sink, flush=True)
            line = self.source.readline()
            if not line:
                raise InputError(f"init: the answers ended before {self._flag(key)} was given")
            if not line.strip() and (default is not None or optional):
                return default
            try:
                return self._checked(key, line.strip(), parse, choices)
            except InputError as error:
                print(f"  {str(error).removeprefix('init: ')}", file=self.sink)

    def confirm(self, key: str, question: str, *, default: bool = False) -> bool:
        """Yes or no."""
        answer = self.ask(key, question, parse=_yes, default="yes" if default else "no")
        return _yes(answer)

    def _checked(self, key: str, answer: Any, parse: Callable[[str], Any], choices: Sequence[str]) -> Any:
        if not isinstance(answer, str):
            return answer
        if choices and answer not in choices:
            raise InputError(f"init: {self._flag(key)}: {answer!r} is not allowed; {', '.join(choices)} is wanted")
        try:
            return parse(answer)
        except ValueError as error:
            raise InputError(f"init: {self._flag(key)}: {answer!r} is not allowed; {error} is wanted") from None

    def _flag(self, key: str) -> str:
        return self.flags.get(key, f"--set {key}=...")


@dataclass(frozen=True)
class Seen:
    """What a look has shown.

    Attributes:
      columns: column -> Arrow type; string for CSV, which has none. Empty for a folder of images, and for JSONL,
        whose keys stand beside values.
      folders: names of the folders directly in a folder of images that hold pictures, by the names of their files.
      separator: what parts the columns of CSV.
    """

    columns: dict[str, pa.DataType]
    folders: list[str]
    separator: str = ","


def _yes(answer: Any) -> bool:
    if isinstance(answer, bool):
        return answer
    if answer.lower() in ("y", "yes", "n", "no"):
        return bool(answer.lower().startswith("y"))
    raise ValueError("yes or no")


def number(low: float, high: float, *, whole: bool = False, least: bool = False) -> Callable[[str], float]:
    """A parser of numbers above `low` (`least`: or equal to it) and up to `high`."""

    def parse(text: str) -> float:
        try:
            value = int(float(text)) if whole else float(text)
        except (ValueError, OverflowError):
            raise ValueError("a whole number" if whole else "a number") from None
        if not (low < value <= high or (least and value == low)):
            bound = f"{low:g} or more" if least else f"above {low:g}"
            raise ValueError(f"a number, {bound}" + (f", up to {high:g}" if high < float("inf") else ""))
        return value

    return parse


def listed(text: str) -> list[str]:
    """Names between commas."""
    found = [part.strip() for part in text.split(",")]
    if not all(found) or len(set(found)) != len(found):
        raise ValueError("names between commas, none empty, none twice,")
    return found
