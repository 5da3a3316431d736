"""The private source as a recipe names it, found among what is registered."""

from __future__ import annotations

from typing import Any

from pe_beam import registry
from pe_beam.contracts.source import PARTS, Source, SourceRequest
from pe_beam.errors import RecipeError
from pe_beam.recipe.cut import CutSource
from pe_beam.recipe.identity import declared_preparation
from pe_beam.recipe.models import Recipe, Split
from pe_beam.recipe.parts import find_modality
from pe_beam.recipe.prepared import PreparedSource


def private_source(recipe: Recipe) -> Source:
    """The private records."""
    by_client = recipe.privacy.unit == "client"
    return source_at(recipe, recipe.data.path, part="train", client=by_client)


def source_at(recipe: Recipe, path: str, *, part: str | None, client: bool = False, key: str = "data.path") -> Source:
    """Records read as the recipe says, its own or a holdout.

    Args:
      recipe: resolved.
      path: instead of data.path.
      part: of data.holdout's cut, where it is one ("train" or "test"); None: all of it.
      client: whether records have client ids.
      key: the recipe key that messages name.

    Raises:
      RecipeError: the source cannot be had so.
    """
    data = recipe.data
    cut = None if part is None else _cut(recipe, part)
    declared = "client" in data.columns or recipe.privacy.unit == "client"
    # A client's records are cut together wherever there are clients, whatever the unit.
    by_client = cut is not None and declared and "client" in find_source(data.source).takes
    found = open_source(
        source=data.source,
        path=path,
        content=find_modality(recipe).reader(),
        columns=data.columns,
        labelled=data.labels is not None,
        client=client or by_client,
        part=cut,
        key=key,
        labels=data.labels,
        separator=data.separator,
        chat=data.chat,
        never_stop=data.never_stop,
        options=find_source(data.source).Options.model_validate(data.options),
    )
    preparation = declared_preparation(recipe)
    return found if preparation is None else PreparedSource(found, preparation)


def find_source(name: str) -> type[Source]:
    """The registered source; RecipeError where there is none."""
    found: type[Source] = registry.find("sources", name, key="data.source")
    return found


def open_source(*, source: str, part: tuple[str, float, int] | None = None, **request: Any) -> Source:
    """Opens private data, or a holdout.

    Args:
      source: as it is registered.
      part: ("train" or "test", test share, random state) of a cut; None: all of it.
      **request: what else `SourceRequest` holds.

    Raises:
      RecipeError: the source cannot be had so.
    """
    cls, asked = find_source(source), SourceRequest(**request)
    if not asked.path:
        raise RecipeError(f"{asked.key}: empty; a data set's name, a folder, a file or a glob is wanted")
    if part is not None and part[0] not in PARTS:
        raise RecipeError(f"data.holdout: part {part[0]!r} is not known; allowed: {', '.join(PARTS)}")
    if asked.client and "client" not in cls.takes:
        raise RecipeError(f"data.columns.client: source {source} has no clients; allowed: {_which_take('client')}")
    if asked.columns and "columns" not in cls.takes:
        raise RecipeError(f"data.columns: source {source} has no columns; allowed: {_which_take('columns')}")
    if cls.cuts:
        return cls.open(SourceRequest(**request, part=part))
    found = cls.open(asked)
    return found if part is None else CutSource(found, *part)


def _which_take(what: str) -> str:
    return ", ".join(name for name in registry.names("sources") if what in find_source(name).takes)


def _cut(recipe: Recipe, part: str) -> tuple[str, float, int] | None:
    """The recipe's cut, as sources take it; None: it has none."""
    cut = recipe.data.holdout
    return (part, cut.share, cut.random_state) if isinstance(cut, Split) else None
