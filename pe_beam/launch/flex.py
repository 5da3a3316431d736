"""Writes the metadata and the specs of Flex Templates for Dataflow, from the programs' own tables of parameters.

    python -m pe_beam.launch.flex

writes `templates/dataflow/*/metadata.json` and `spec.json` again, from the root of a checkout. A test checks that they
are current. `--image IMAGE --to FOLDER` writes specs of an image of your own to a folder, ready for a bucket.

Field names are those of Dataflow's REST API (ContainerSpec, TemplateMetadata, ParameterMetadata).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pe_beam.launch.parameters import Kind, Parameter, Program

PROGRAMS = ("embed", "iteration", "evolve", "evaluate")
IMAGE = "REGION-docker.pkg.dev/PROJECT/pe-beam/pe-beam-PROGRAM:0.1.0"
"""Stands for an image in the committed specs; PROGRAM is the program's name."""

_TYPES = {
    Kind.TEXT: "TEXT",
    Kind.FILE: "GCS_READ_FILE",
    Kind.FOLDER: "GCS_WRITE_FOLDER",
    Kind.COUNT: "NUMBER",
    Kind.CHOICE: "ENUM",
    Kind.SWITCH: "BOOLEAN",
}


def program_of(name: str) -> Program:
    """Returns the table of a program of `pipelines/`."""
    found: Program = importlib.import_module(f"pipelines.{name}").PROGRAM
    return found


def metadata(program: Program) -> dict[str, Any]:
    """Returns a program's TemplateMetadata, as plain data."""
    return {
        "name": program.title,
        "description": program.text,
        "parameters": [_parameter(each) for each in program.parameters if each.launched],
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": parameter.name,
        "label": parameter.label,
        "helpText": parameter.text[0].upper() + parameter.text[1:] + ".",
        "isOptional": parameter.optional,
        "paramType": _TYPES[parameter.kind],
    }
    if parameter.pattern is not None:
        made["regexes"] = [f"^{parameter.pattern}$"]
    if parameter.choices:
        made["enumOptions"] = [{"value": choice} for choice in parameter.choices]
    if parameter.default is not None:
        made["defaultValue"] = parameter.default
    return made


def spec(program: Program, image: str) -> dict[str, Any]:
    """Returns a program's ContainerSpec, as plain data.

    Workers run the image that launches the job, so both have the same packages.

    Args:
      program: its table.
      image: name of the image that has this program as PIPELINE (templates/dataflow/Dockerfile).
    """
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": metadata(program),
        "defaultEnvironment": {"sdkContainerImage": image},
    }


def files() -> dict[str, str]:
    """Returns the committed files: path from the root of a checkout -> content."""
    made = {}
    for name in PROGRAMS:
        program = program_of(name)
        made[f"templates/dataflow/{name}/metadata.json"] = _text(metadata(program))
        made[f"templates/dataflow/{name}/spec.json"] = _text(spec(program, IMAGE.replace("PROGRAM", name)))
    return made


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _own(image: str, folder: Path) -> dict[Path, str]:
    return {folder / f"{name}.json": _text(spec(program_of(name), image.replace("PROGRAM", name))) for name in PROGRAMS}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the files; returns the exit status."""
    parser = argparse.ArgumentParser(prog="pe_beam.launch.flex", description="Makes Flex Templates of the programs.")
    parser.add_argument("--image", help="an image of your own; PROGRAM in it stands for the program's name")
    parser.add_argument("--to", metavar="FOLDER", help="where the specs of that image go")
    options = parser.parse_args(argv)
    if (options.image is None) != (options.to is None):
        parser.error("--image and --to are given together")
    if options.image is not None and "PROGRAM" not in options.image:
        parser.error("--image: PROGRAM has to stand in it: each program has an image of its own, of the same layers")
    made = {Path(name): text for name, text in files().items()}
    if options.image is not None:
        made = _own(options.image, Path(options.to))
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
