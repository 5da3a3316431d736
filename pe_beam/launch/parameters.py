"""The parameters of a program as one typed table, of which its argument parser and a template's metadata are made."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pe_beam import console
from pe_beam.errors import InputError, PeBeamError


class Kind(StrEnum):
    """What a parameter holds."""

    TEXT = "text"
    FILE = "file"
    FOLDER = "folder"
    COUNT = "count"
    CHOICE = "choice"
    SWITCH = "switch"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a program.

    Attributes:
      name: of the flag, without its dashes, as Beam writes flags: `run_dir`.
      label: two or three words, for a form.
      text: one sentence on what it does.
      kind: what it holds.
      optional: whether it may be left out.
      default: the value if it is left out.
      choices: all values that a CHOICE may have.
      pattern: a regular expression that all of the value matches where a service launches the program, because no
        worker sees a disk there; None: any value.
      launched: False: a service that launches the program does not know it.
    """

    name: str
    label: str
    text: str
    kind: Kind = Kind.TEXT
    optional: bool = False
    default: str | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    launched: bool = True

    def read(self, value: str) -> str | int | bool:
        """Returns a value as its kind.

        Raises:
          ValueError: it is not of this kind.
        """
        if self.kind is Kind.COUNT:
            return _count(value)
        if self.kind is Kind.SWITCH:
            return {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else _refuse()
        return value

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Adds the parameter to an argument parser. A switch is given as `--name` or `--name=true`."""
        flag, needed = f"--{self.name}", not self.optional
        if self.kind is Kind.SWITCH:
            read = _named(self.read, "true or false")
            parser.add_argument(flag, nargs="?", const=True, default=False, type=read, help=self.text)
        elif self.kind is Kind.CHOICE:
            parser.add_argument(flag, required=needed, default=self.default, choices=self.choices, help=self.text)
        elif self.kind is Kind.COUNT:
            read = _named(self.read, "whole number, 0 or more")
            parser.add_argument(flag, required=needed, default=self.default, type=read, help=self.text)
        else:
            parser.add_argument(flag, required=needed, default=self.default, help=self.text)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of `pipelines/`.

    Attributes:
      name: of its module: `embed`.
      title: of its template.
      text: what it does, in a few sentences.
      parameters: its own parameters; all other flags are Beam's.
    """

    name: str
    title: str
    text: str
    parameters: tuple[Parameter, ...]

    def parser(self) -> argparse.ArgumentParser:
        """Returns the argument parser of the table. It takes no abbreviations: Beam has flags of its own."""
        parser = argparse.ArgumentParser(prog=f"pipelines.{self.name}", description=self.text, allow_abbrev=False)
        for parameter in self.parameters:
            parameter.add_to(parser)
        return parser

    def refuse_unlaunchable(self, options: argparse.Namespace) -> None:
        """Refuses values that no worker of a service could use. Raises InputError with the parameter's name."""
        for parameter in self.parameters:
            value, pattern = getattr(options, parameter.name), parameter.pattern
            if pattern is not None and value is not None and not re.fullmatch(pattern, str(value)):
                raise InputError(f"--{parameter.name}={value}: a template wants a value that matches {pattern}")

    def refuse_misspelt(self, beam_args: Sequence[str]) -> None:
        """Refuses flags that are nearly those of a parameter: Beam leaves out what it does not know."""
        known = [f"--{parameter.name}" for parameter in self.parameters]
        for flag in (arg.partition("=")[0] for arg in beam_args if arg.startswith("--")):
            near = difflib.get_close_matches(flag, known, 1, cutoff=0.85)
            if near:
                raise InputError(f"{flag} is not known; did you mean {near[0]}?")

    def run(self, body: Callable[[argparse.Namespace, list[str]], None], argv: Sequence[str] | None) -> int:
        """Parses flags, calls `body` with the program's options and Beam's flags, and returns the exit status.

        It prints one message for an error: 0 done, 1 failed, 2 wrong input, 130 interrupted.
        """
        options, beam_args = self.parser().parse_known_args(argv)
        try:
            self.refuse_misspelt(beam_args)
            if any(arg.partition("=")[0] == "--template_location" for arg in beam_args):
                self.refuse_unlaunchable(options)
            body(options, beam_args)
        except KeyboardInterrupt:
            return console.leave(interrupted(self.name))
        except PeBeamError as error:
            sys.stderr.write(f"{self.name}: {error}\n")
            return error.exit_status
        return 0


def interrupted(name: str) -> str:
    """Returns what a program says at Ctrl-C."""
    return f"{name}: interrupted; run it again, it goes on from here"


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError(value)
    return int(value)


def _refuse() -> bool:
    raise ValueError


def _named(read: Callable[[str], object], wanted: str) -> Callable[[str], object]:
    """Gives a reader the name that argparse shows: "invalid whole number, 0 or more value"."""

    def read_named(value: str) -> object:
        try:
            return read(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{value!r} is not allowed; {wanted} is wanted") from None

    return read_named


# --- parameters that several programs have -------------------------------------------------------------------

RECIPE = Parameter(
    name="recipe",
    label="Recipe",
    text="a YAML recipe: gs://BUCKET/recipe.yaml; outside of templates also a path, or the name of a shipped one",
    kind=Kind.FILE,
    pattern=r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9]/.+",
)
RUN_DIR = Parameter(
    name="run_dir",
    label="Run directory",
    text="the run directory: gs://BUCKET/runs/mine, made if it is not there; outside of templates also a path",
    kind=Kind.FOLDER,
    pattern=r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9]/.+",
)
