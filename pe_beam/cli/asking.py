"""`pe-beam init`: asks a few questions, or takes flags, and writes a recipe."""

from __future__ import annotations

import argparse
import shlex
import sys

from pe_beam.cli.terminal import told_epsilon
from pe_beam.errors import InputError
from pe_beam.wording import counted

_FLAGS = {
    "data.path": ("--data", "PATH", "a folder, a file or a glob with the private records; not read"),
    "data.source": ("--source", "KIND", "folder, parquet, csv, jsonl, webdataset, ...; default: by the name"),
    "modality": ("--modality", "NAME", "what a record is: image, text, ..."),
    "data.columns.label": ("--label", "COLUMN", "the column with the label; several: names between commas"),
    "data.labels": ("--labels", "A,B,...", "the public labels, between commas"),
    "data.schema": ("--schema", "FILE", "tables: a YAML file that declares the columns"),
    "public": ("--public", "FILE", "tables: a public file like the data, to read bounds and values off (PARENT,CHILD)"),
    "data.holdout": ("--holdout", "PATH", "real records set aside for evaluate"),
    "data.expected_records": ("--expected-records", "N", "a public guess, not a count"),
    "privacy.epsilon": ("--epsilon", "E", "0.001 to 1000; default 1"),
    "privacy.delta": ("--delta", "D", "default: below 1/(n ln n), n the public guess"),
    "privacy.adjacency": ("--adjacency", "A", "add-or-remove-one or replace-one"),
    "evolution.samples": ("--samples", "N", "how many to make"),
    "evolution.iterations": ("--iterations", "T", "each is a noisy histogram"),
    "name": ("--name", "NAME", "of the run"),
}


def add_init(command: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    command.set_defaults(command=_init)
    for key, (flag, value, text) in _FLAGS.items():
        command.add_argument(flag, dest=key, metavar=value, help=text)
    command.add_argument(
        "--look", action="store_true", help="look at names of folders, tables and columns, and at types"
    )
    command.add_argument("--labels-from-folders", action="store_true", help="the names of folders are public labels")
    command.add_argument("--set", action="append", default=[], metavar="a.b=c", help="answer anything by recipe key")
    command.add_argument("--yes", action="store_true", help="ask nothing: take defaults for what no flag says")
    command.add_argument("--out", default="recipe.yaml", metavar="FILE", help="where to write; default recipe.yaml")
    command.add_argument("--force", action="store_true", help="write over a file that is there")


def _init(options: argparse.Namespace) -> None:
    from pe_beam.contracts.asking import Asker
    from pe_beam.init.main import write_recipe

    given = {key: value for key in _FLAGS if (value := getattr(options, key)) is not None}
    for pair in options.set:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InputError(f"--set {pair!r}: a.b=c is wanted")
        given[key.strip()] = value
    given |= {"look": True} if options.look else {}
    given |= {"folders": True, "look": True} if options.labels_from_folders else {}
    flags = {key: flag for key, (flag, _, _) in _FLAGS.items()}
    flags |= {"look": "--look", "folders": "--labels-from-folders"}
    asker = Asker(given, interactive=not options.yes and sys.stdin.isatty(), flags=flags)
    recipe, plan = write_recipe(asker, options.out, force=options.force)
    print(
        f"written: {options.out}  (epsilon {told_epsilon(plan.epsilon)}, delta {recipe.privacy.delta:g}, "
        f"{counted(recipe.evolution.iterations, 'iteration')}, {plan.generator_calls} generator calls)"
    )
    for warning in plan.warnings:
        print(f"warning: {warning}")
    out = shlex.quote(options.out)
    print(f"next:    pe-beam plan {out}")
    print(f"         pe-beam run {out} --run-dir runs/{recipe.name}")
