"""Opens the private source or the holdout of a recipe, with a registered source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from pe_beam import registry
from pe_beam.contracts.source import PARTS, Source, SourceRequest
from pe_beam.errors import RecipeError
from pe_beam.recipe.cut import CutSource
from pe_beam.recipe.identity import declared_preparation
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import find_modality
from pe_beam.recipe.prepared import PreparedSource
from pe_beam.recipe.sections.data import Split
from pe_beam.recipe.windows import CappedSource, read_manifest, stream_root


def private_source(recipe: Recipe, records: pa.Table | None = None) -> Source:
    """Opens the source of the private records.

    Args:
      recipe: a resolved recipe.
      records: the records of one piece, if the source has a `transform`.
    """
    by_client = recipe.vote_unit == "client"
    if recipe.stream is not None and recipe.stream.at is not None:
        return _window_source(recipe, client=by_client)
    return source_at(recipe, recipe.data.path, part="train", client=by_client, records=records)


def _window_source(recipe: Recipe, *, client: bool) -> Source:
    """Opens the members of a window, without the clients whose windows are used up."""
    manifest = read_manifest(recipe.data.path)
    found = source_at(recipe, manifest["path"], part=None, client=client, members=manifest["members"])
    if not client or manifest["clients"] is None:
        return found
    return CappedSource(found, stream_dir=stream_root(recipe.data.path), **manifest["clients"])


def path_on_disk(recipe: Recipe, path: str | None = None) -> str | None:
    """Returns the path on a disk that workers read records from, or None: they lie elsewhere, or on each worker.

    Args:
      recipe: a resolved recipe.
      path: path that replaces data.path, and with it the window of a stream.
    """
    if path is None:
        window = recipe.stream is not None and recipe.stream.at is not None
        path = str(read_manifest(recipe.data.path)["path"]) if window else recipe.data.path
    return path if find_source(recipe.data.source).on_disk(path) else None


def source_at(
    recipe: Recipe,
    path: str,
    *,
    part: str | None,
    client: bool = False,
    key: str = "data.path",
    records: pa.Table | None = None,
    members: Mapping[str, Any] | None = None,
) -> Source:
    """Opens a source with the settings of the recipe: its own data or a holdout.

    Args:
      recipe: a resolved recipe.
      path: path that replaces data.path.
      part: side of data.holdout's cut, if it is a cut ("train" or "test"); None for all records.
      client: whether records have client ids.
      key: the recipe key that messages name.
      records: the records of one piece, if the source has a `transform`.
      members: what may be read of a window of a stream; None: all.

    Raises:
      RecipeError: the source is not known, or it does not fit the recipe.
    """
    data = recipe.data
    cut = None if part is None else _cut(recipe, part)
    declared = "client" in data.columns or recipe.privacy.unit == "client"
    # A client's records are always cut together, whatever the privacy unit.
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
        encoding=data.encoding,
        chat=data.chat,
        never_stop=data.never_stop,
        options=find_source(data.source).Options.model_validate(data.options),
        records=records,
        members=members,
    )
    preparation = declared_preparation(recipe)
    return found if preparation is None else PreparedSource(found, preparation)


def find_source(name: str) -> type[Source]:
    """Returns the registered source. Raises RecipeError if the name is not registered."""
    found: type[Source] = registry.find("sources", name, key="data.source")
    return found


def open_source(*, source: str, part: tuple[str, float, int] | None = None, **request: Any) -> Source:
    """Opens private data, or a holdout.

    Args:
      source: the registered name.
      part: ("train" or "test", test share, random state) of a cut; None for all records.
      **request: the other fields of `SourceRequest`.

    Raises:
      RecipeError: the source is not known, or it does not support the request.
    """
    request["path"] = _without_scheme(request["path"])
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


def _without_scheme(path: str) -> str:
    """Returns the path of a `file://` URL, which says that each worker has the records at it; others as they are."""
    return unquote(path.removeprefix("file://")) if path.startswith("file:///") else path


def _which_take(what: str) -> str:
    return ", ".join(name for name in registry.names("sources") if what in find_source(name).takes)


def _cut(recipe: Recipe, part: str) -> tuple[str, float, int] | None:
    """Returns the recipe's cut in the form for sources, or None without a cut."""
    cut = recipe.data.holdout
    return (part, cut.share, cut.random_state) if isinstance(cut, Split) else None
