"""The folder of a recipe: the recipe and the files that it names, on a disk or in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pe_beam.errors import PeBeamError, RecipeError
from pe_beam.shipped import recipe_path
from pe_beam.storage import open_store


@dataclass(frozen=True)
class RecipeFolder:
    """Where relative files of a recipe lie.

    Attributes:
      at: a folder of a disk, or the URL of a store.
    """

    at: str | Path

    def read_text(self, name: str | Path) -> str:
        """Returns the content of a text file.

        Raises:
          OSError, UnicodeDecodeError: the file cannot be read. `strerror` says why.
        """
        if not _is_url(self.at):
            return (Path(self.at) / name).read_text(encoding="utf-8")
        try:
            return open_store(self.at).read(str(name)).decode()
        except PeBeamError as error:
            said = str(error).removeprefix(f"--run-dir {self.at}: ").removeprefix("run directory: ")
            raise OSError(0, said.removeprefix(f"reading {name} failed: ")) from error


def placed(place: str, folder: RecipeFolder) -> str:
    """Returns the absolute place of a folder that a recipe names: workers and resumes do not have the recipe's."""
    if "://" in place:
        return place
    if _is_url(folder.at):
        return place if place.startswith("/") else f"{str(folder.at).rstrip('/')}/{place}"
    return str((Path(folder.at) / place).absolute())


def place_of(path: str | Path) -> tuple[RecipeFolder, str]:
    """Returns the folder of a recipe and its name in there. The bare name `digits` finds the shipped recipe.

    >>> place_of("gs://bucket/recipes/mine.yaml")
    (RecipeFolder(at='gs://bucket/recipes'), 'mine.yaml')
    """
    if _is_url(path):
        folder, _, name = str(path).rpartition("/")
        return RecipeFolder(folder), name
    found = recipe_path(path)
    return RecipeFolder(found.parent), found.name


def _is_url(path: str | Path) -> bool:
    return isinstance(path, str) and "://" in path


NO_VALUE = "a date that does not exist (a day as YYYY-MM-DD is wanted), or a number that is far too long"
"""What Python's ValueError means when YAML is read."""


def read_yaml(folder: RecipeFolder, name: str, key: str) -> Any:
    """Returns a YAML or JSON file as plain data. Raises RecipeError, which names the key."""
    try:
        return yaml.safe_load(folder.read_text(name))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise RecipeError(f"{key}: cannot be read ({reason})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{key}: not valid YAML{where}") from error
    except RecursionError:
        raise RecipeError(f"{key}: nested too deeply") from None
    except ValueError as error:  # such as 2020-13-01, or a number with thousands of digits
        raise RecipeError(f"{key}: not valid YAML: {NO_VALUE}") from error
