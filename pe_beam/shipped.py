"""Finds the files that ship with the code: recipes and files that set up runners."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def templates() -> Path:
    """Returns the folder `templates`: in an installed package it is inside, in a checkout it is beside the package."""
    inside = _HERE / "templates"
    return inside if inside.is_dir() else _HERE.parent / "templates"


def recipe_path(path: str | Path) -> Path:
    """Returns the path itself, or the shipped recipe if the path is its bare name (`digits`) and no file has it."""
    path = Path(path)
    shipped = templates() / "recipes" / f"{path}.yaml"
    return shipped if path.name == str(path) and not path.exists() and shipped.exists() else path
