"""Writes docs/cli.md, the reference of the command line, from its argument parsers.

    python -m pe_beam.cli.reference

writes it again, from the root of a checkout. A test checks that it is current.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from pe_beam.cli.main import command_line

FILE = "docs/cli.md"
_INTRO = """\
# The command line

Made from the parsers by `python -m pe_beam.cli.reference`; a test keeps it current. `pe-beam COMMAND --help` shows the
same.

Exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted. Results go to stdout, progress and errors to stderr. Beam
flags follow `--`, as in `pe-beam run digits --run-dir runs/digits -- --runner=FlinkRunner`
([runners.md](runners.md)). `DIR` and `BOOK` are paths or URLs of stores ([stores.md](stores.md)).
"""


def markdown() -> str:
    """Returns the content of docs/cli.md."""
    parser = command_line()
    parts = [_INTRO, "Before the command:\n", _table(parser), *_commands(parser)]
    return "\n".join(parts)


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the sections of all commands of a parser, and of theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield _section(command)
                yield from _commands(command)


def _section(command: argparse.ArgumentParser) -> str:
    arguments = [_value(action) for action in command._actions if not action.option_strings]
    options = [action for action in _taken(command) if action.option_strings]
    wanted = [_flag(action) for action in options if action.required]
    further = ["[options]"] if len(wanted) < len(options) else []
    table = _table(command)
    return "\n".join(
        [
            f"## {command.prog}\n",
            f"{_sentence(command.description or '')}\n",
            f"```text\n{' '.join([command.prog, *arguments, *wanted, *further])}\n```\n",
            *([table] if table else []),
        ]
    )


def _table(parser: argparse.ArgumentParser) -> str:
    """Returns what a parser takes as a table: its arguments first, then its options; empty if there is nothing."""
    actions = sorted(_taken(parser), key=lambda action: bool(action.option_strings))
    rows = [f"| `{_flag(action)}` | {_said(action)} |" for action in actions]
    return "\n".join(["| | |", "|---|---|", *rows, ""]) if rows else ""


def _taken(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    others = (argparse._HelpAction, argparse._SubParsersAction)
    return [action for action in parser._actions if not isinstance(action, others)]


def _flag(action: argparse.Action) -> str:
    return " ".join([*action.option_strings[:1], *([_value(action)] if action.nargs != 0 else [])])


def _value(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return f"{action.metavar}{' ...' if action.nargs == '+' else ''}"


def _said(action: argparse.Action) -> str:
    """Returns the help of an argument, with what an option may be, and whether it may come several times."""
    notes = [(action.help or "").replace("|", r"\|")]
    if action.option_strings and action.required:
        notes.append("wanted")
    if isinstance(action, argparse._AppendAction):
        notes.append("may come several times")
    if action.choices is not None:
        notes.append(f"default: {action.default}")
    return "; ".join(note for note in notes if note)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def main() -> None:
    """Writes the file."""
    Path(FILE).write_text(markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
