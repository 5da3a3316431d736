"""Replays a Dockerfile's last stage in a virtual environment: its COPY, ENV and RUN steps as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

INSTRUCTIONS = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV"}


@dataclass
class Image:
    """What a replay has made.

    Attributes:
      root: the folder that stands for the image's root.
      base: the image that the last stage begins with.
      environment: variables that ENV sets.
      copied: paths in the image that come from other stages, which cannot be had here.
    """

    root: Path
    base: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)


def steps(file: Path) -> Iterator[tuple[str, str]]:
    """Instruction and rest of each step; one that is not known here is an error."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#")))
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction not in INSTRUCTIONS:
            raise ValueError(f"{file.name}: {instruction} is not replayed")
        yield instruction, rest


def replay(file: Path, context: Path, root: Path, venv: Path, **build_args: str) -> Image:
    """Replays the last stage of a Dockerfile.

    Args:
      file: the Dockerfile.
      context: the folder that `docker build` would be given.
      root: an empty folder for the image's files.
      venv: stands for the Python of the base image; `pip` installs into it.
      build_args: as `--build-arg`.
    """
    image, known, here = Image(root), dict[str, str](), root
    pip = _pip(root.with_name("bin"), venv)
    for instruction, rest in steps(file):
        if instruction == "ARG":
            name, _, default = rest.partition("=")
            known[name] = build_args.get(name, known.get(name, default))
        elif instruction == "FROM":
            image, here = Image(root, base=Template(rest.split(" AS ")[0]).substitute(known)), root
        elif instruction == "WORKDIR":
            here = root / rest.lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        elif instruction == "ENV":
            for pair in rest.split():
                name, _, value = Template(pair).substitute(known).partition("=")
                image.environment[name] = value
        elif instruction == "COPY":
            _copy(rest.split(), context, here, image)
        else:
            variables = {**os.environ, **known, **image.environment, "PATH": f"{pip}:{venv}/bin:{os.environ['PATH']}"}
            variables = {key: value for key, value in variables.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
            done = subprocess.run(
                ["sh", "-ec", rest], cwd=here, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"RUN {rest}: {done.stderr[-3000:]}"
    assert set(build_args) <= set(known), "--build-arg that no ARG declares"
    return image


def _copy(words: list[str], context: Path, here: Path, image: Image) -> None:
    if words[0].startswith("--from="):
        image.copied.append(words[-1])
        return
    *sources, target = words
    to = image.root / target.lstrip("/") if target.startswith("/") else here / target
    for source in sources:
        found = context / source
        if found.is_dir():
            shutil.copytree(found, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            into = to / found.name if target.endswith("/") else to
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, into)


def _pip(folder: Path, venv: Path) -> Path:
    """A folder with a `pip` that is uv's: it takes from its cache what other tests have installed."""
    folder.mkdir(parents=True)
    uv = Path(sys.executable).with_name("uv")
    program = folder / "pip"
    program.write_text(
        "#!/bin/sh\n"
        f'verb="$1"; shift; words=""; for word in "$@"; do [ "$word" = --no-cache-dir ] || words="$words $word"; done\n'
        f'exec "{uv}" pip "$verb" --quiet --python "{venv}/bin/python" $words\n'
    )
    program.chmod(0o755)
    return folder
