"""Gets answers from flags, from a person at a terminal, or from defaults, through one interface."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import pyarrow as pa

from pe_beam.errors import InputError


@dataclass
class Asker:
    """Asks the questions that no flag has answered.

    Attributes:
      given: key -> answer, from flags.
      interactive: whether a person answers. If not, the default is the answer. An answer that is missing or wrong is
        noted in `faults`, and a stand-in keeps the questions going, so that all of them are named at once.
      source: stream from which answers are read.
      sink: stream to which questions are written.
      flags: key -> the flag that answers it, for messages. Other keys are answered by `--set key=value`.
      asked: the keys asked for so far.
      remarks: key -> a comment that the recipe gets above this key.
      faults: key -> why its answer is missing or wrong; only if nobody can be asked again.
      seen: what a look at the data has shown.
      look: (path, kind of files) -> what a look at files there shows, which is nothing unless it was allowed.
    """

    given: Mapping[str, Any]
    interactive: bool
    source: TextIO = field(default_factory=lambda: sys.stdin)
    sink: TextIO = field(default_factory=lambda: sys.stderr)
    flags: Mapping[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    remarks: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    seen: Seen | None = None
    look: Callable[[str, str], Seen] = field(default=lambda *_: Seen({}, []))

    def say(self, text: str) -> None:
        """Prints a text if a person answers, and nothing otherwise."""
        if self.interactive:
            print(text, file=self.sink)

    def warn(self, text: str) -> None:
        """Prints a warning, whether a person answers or not."""
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
        """Returns one answer.

        Args:
          key: the name of the question: the dotted key of the recipe if there is one.
          question: one line, without the question mark.
          parse: text -> answer. On a ValueError its message is printed and a person is asked again.
          default: the answer to an empty line.
          choices: the only allowed answers; empty: all answers are allowed.
          optional: whether an empty line is allowed; its answer is then None.

        Returns a default or a stand-in if `lacks` says so of the key: its answer is missing or wrong.

        Raises:
          InputError: an answer is wrong or missing, and the person cannot be asked again.
        """
        self.asked.add(key)
        if key in self.given:
            try:
                return self._checked(key, self.given[key], parse, choices)
            except InputError as error:
                self.refuse(key, str(error))
                return default if default is not None or optional else _stand_in(parse, choices)
        if not self.interactive:
            if default is not None or optional:
                return default
            allowed = f": {', '.join(choices)}" if choices else ""
            self.refuse(key, f"init: {self.flag(key)} is missing ({question}{allowed})")
            return _stand_in(parse, choices)
        hint = f" ({', '.join(choices)})" if choices else ""
        shown = f" [{default}]" if default is not None else " [none]" if optional else ""
        while True:
            print(f"{question}{hint}{shown}: ", end="", file=self.sink, flush=True)
            line = self.source.readline()
            if not line:
                raise InputError(f"init: the answers ended before {self.flag(key)} was given")
            if not line.strip() and (default is not None or optional):
                return default
            try:
                return self._checked(key, line.strip(), parse, choices)
            except InputError as error:
                print(f"  {str(error).removeprefix('init: ')}", file=self.sink)

    def confirm(self, key: str, question: str, *, default: bool = False) -> bool:
        """Asks a question and returns True for yes, False for no."""
        answer = self.ask(key, question, parse=_yes, default="yes" if default else "no")
        return _yes(answer)

    def _checked(self, key: str, answer: Any, parse: Callable[[str], Any], choices: Sequence[str]) -> Any:
        if not isinstance(answer, str):
            return answer
        if choices and answer not in choices:
            raise InputError(f"init: {self.flag(key)}: {answer!r} is not allowed; {', '.join(choices)} is wanted")
        try:
            return parse(answer)
        except ValueError as error:
            raise InputError(f"init: {self.flag(key)}: {answer!r} is not allowed; {error} is wanted") from None

    def refuse(self, key: str, why: str) -> None:
        """Notes that an answer is missing or wrong.

        Raises:
          InputError: a person answers, who is to know at once.
        """
        if self.interactive:
            raise InputError(why)
        self.faults[key] = why

    def lacks(self, key: str) -> bool:
        """Returns whether the answer to a question is missing or wrong, so that nothing can be concluded from it."""
        return key in self.faults

    def check(self) -> None:
        """Raises InputError with a line for each answer that is missing or wrong, if there is one."""
        if self.faults:
            first, *others = dict.fromkeys(self.faults.values())
            raise InputError("\n".join([first, *(f"  {why.removeprefix('init: ')}" for why in others)]))

    def flag(self, key: str) -> str:
        """Returns the flag that answers a question."""
        return self.flags.get(key, f"--set {key}=...")


@dataclass(frozen=True)
class Seen:
    """What a first look at the data has shown.

    Attributes:
      columns: column -> Arrow type; string for CSV, which has no types. Empty for a folder of images, and for JSONL,
        where keys and values are in the same lines.
      folders: names of the direct subfolders of a folder of images that contain pictures, judged by file names.
      separator: the text between two columns of CSV.
      tables: names of CSV, JSONL and Parquet files below a folder of images.
    """

    columns: dict[str, pa.DataType]
    folders: list[str]
    separator: str = ","
    tables: list[str] = field(default_factory=list)


def _stand_in(parse: Callable[[str], Any], choices: Sequence[str]) -> Any:
    """Returns an answer that `parse` accepts, or None. No recipe is ever written with it."""
    for text in (*choices[:1], "1", "x"):
        try:
            return parse(text)
        except ValueError:
            continue
    return None


def _yes(answer: Any) -> bool:
    if isinstance(answer, bool):
        return answer
    if answer.lower() in ("y", "yes", "n", "no"):
        return bool(answer.lower().startswith("y"))
    raise ValueError("yes or no")


def number(low: float, high: float, *, whole: bool = False, least: bool = False) -> Callable[[str], float]:
    """Returns a parser of numbers above `low` (with `least`, `low` itself too) and up to `high`."""

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


def column(seen: Seen) -> Callable[[str], str]:
    """Returns a parser of one name: of a column that was seen, if any were."""

    def parse(text: str) -> str:
        if not text or (seen.columns and text not in seen.columns):
            raise ValueError(f"one column of {', '.join(seen.columns)}" if seen.columns else "a name")
        return text

    return parse


def listed(text: str) -> list[str]:
    """Splits a text at its commas into names. Raises ValueError if a name is empty or occurs twice.

    >>> listed("a, b"), listed("[1, 2.5, 'b']")
    (['a', 'b'], ['1', '2.5', 'b'])
    """
    found = [part.strip() for part in text.split(",")]
    if text.strip().startswith("[") and text.strip().endswith("]"):  # a list as YAML has it
        found = [re.sub(r"""^(['"])(.*)\1$""", r"\2", part.strip()) for part in text.strip()[1:-1].split(",")]
    if not all(found) or len(set(found)) != len(found):
        raise ValueError("names between commas, none empty, none twice,")
    return found
