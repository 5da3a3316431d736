"""Writes a recipe file that `plan` accepts, from the answers to questions."""

from __future__ import annotations

from pathlib import Path

from pe_beam import registry
from pe_beam.contracts.asking import Asker
from pe_beam.contracts.gathering import row_fields
from pe_beam.driver.parts import check_parts
from pe_beam.errors import InputError, StorageError
from pe_beam.init.composing import compose
from pe_beam.init.writing import render
from pe_beam.names import plain
from pe_beam.recipe.loading import load_recipe, parse_recipe, read_value, set_key
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import Plan


def write_recipe(asker: Asker, out: str, *, force: bool = False) -> tuple[Recipe, Plan]:
    """Asks the questions, makes a recipe, checks it as `plan` does, and writes it only if `plan` accepts it.

    Given answers with dotted keys that belong to no question are set like `--set` of `plan` and `run`.

    Raises:
      InputError: an answer is wrong or missing, or the file exists already.
      StorageError: the file cannot be written.
    """
    path = Path(out)
    if path.exists() and not force:
        raise InputError(f"--out {out}: is there already; another name is wanted, or --force")
    raw = compose(asker)
    for key in sorted(set(asker.given) - asker.asked - {"look", "folders"}):
        if "." not in key:
            raise InputError(f"init: {key}: there is no such question for modality {raw['modality']}")
        set_key(raw, key, read_value(key, str(asker.given[key])))
    recipe = parse_recipe(raw)
    plan = check_parts(recipe)
    _say_other_columns(asker, recipe)
    kinds = {"generator": "generators", "embedder": "embedders"}
    options = {key: registry.find(kind, raw[key]["name"], key=f"{key}.name").Options for key, kind in kinds.items()}
    text = render(raw, path=out, schema=_schema(), options=options, remarks=asker.remarks)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--out {out}: cannot be written ({error.strerror})") from error
    return load_recipe(path), plan


def _say_other_columns(asker: Asker, recipe: Recipe) -> None:
    """Says which columns a look has shown that the schema does not declare, and which of its are not there."""
    modality = registry.find("modalities", recipe.modality, key="modality")
    if asker.seen is None or modality.with_schema is None:
        return
    names = row_fields(modality.with_schema(recipe.data.table_schema).reader())
    roles = [recipe.data.columns.get(name, name) for name in (*names, "label", "client")]
    read = {column for role in roles for column in (role if isinstance(role, list) else [role])}
    left = [name for name in asker.seen.columns if name not in read]
    if left:
        asker.warn(f"columns left out, for data.schema does not declare them: {', '.join(left)}")
    shown = {plain(name) for name in asker.seen.columns}
    wanted = [plain(str(recipe.data.columns.get(name, name))) for name in names]
    missing = [name for name in wanted if not {name, name.split(".")[0]} & shown]  # a.b may lie in an object a
    if shown and missing:
        asker.warn(f"columns that data.schema declares and the first file does not have: {', '.join(missing)}")


def _schema() -> str:
    """Returns the path of the schema for editors in a checkout, or "" in an installed package."""
    path = Path(__file__).parents[2] / "templates" / "recipe.schema.json"
    return str(path) if path.exists() else ""
