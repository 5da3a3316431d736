"""Files that ship beside the code: recipes, and what runners are set up with."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def templates() -> Path:
    """The folder `templates`: inside the package where it was installed, beside it in a checkout."""
    inside = _HERE / "templates"
    return inside if inside.is_dir() else _HERE.parent / "templates"


def recipe_path(path: str | Path) -> Path:
    """The path itself, or the shipped recipe of that bare name (`digits`) where no file has it."""
    path = Path(path)
    shipped = templates() / "recipes" / f"{path}.yaml"
    return shipped if path.name == str(path) and not path.exists() and shipped.exists() else path
