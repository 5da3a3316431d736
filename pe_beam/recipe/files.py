"""The folder of a recipe: the recipe and the files that it names, on a disk or in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pe_beam.errors import PeBeamError
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
            raise OSError(0, str(error).removeprefix(f"--run-dir {self.at}: ")) from error


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
