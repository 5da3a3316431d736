"""The way to open a source by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pe_beam.contracts.content import Content
from pe_beam.contracts.source import IMAGE_SCHEMA, PARTS, WITH_COLUMNS, Source
from pe_beam.errors import RecipeError
from pe_beam.sources.csv_files import CsvSource
from pe_beam.sources.cut import CutSource
from pe_beam.sources.folder import FolderSource
from pe_beam.sources.jsonl import JsonlSource
from pe_beam.sources.parquet import ParquetSource
from pe_beam.sources.roles import Roles
from pe_beam.sources.sklearn_sets import open_set


def open_source(
    *,
    source: str,
    path: str,
    content: Content,
    columns: Mapping[str, str | Sequence[str]],
    labelled: bool,
    client: bool,
    part: tuple[str, float, int] | None = None,
    key: str = "data.path",
    labels: Sequence[str] | None = None,
    separator: str = ",",
    chat: bool = False,
    never_stop: bool = False,
) -> Source:
    """Opens private data, or a holdout.

    Args:
      source: sklearn, folder, parquet, csv or jsonl.
      path: a data set's name; a folder; a file, a folder or a glob.
      content: what becomes of the payload's columns, `Modality.reader()`.
      columns: role (a payload field, label, client) -> column name, label also -> several; a role's own name where
        it is not given.
      labelled: whether records have labels.
      client: whether records have client ids (files with columns alone).
      part: ("train" or "test", test share, random state) of a cut; None for all of it.
      key: the recipe key that messages name for `path` (`data.holdout` for a holdout).
      labels: those that are declared: a record's label that is the same name in another spelling becomes the declared
        one. None: labels are as they lie there.
      separator: what parts the fields of CSV.
      chat: whether lists of messages are read as text (JSONL and Parquet).
      never_stop: whether a picture file that cannot be opened is a reject instead of an error.

    Raises:
      RecipeError: the source cannot be had so.
    """

    if source not in ("sklearn", "folder", *WITH_COLUMNS):
        raise RecipeError(f"data.source: {source!r} is not known; allowed: sklearn, folder, {', '.join(WITH_COLUMNS)}")
    if not path:
        raise RecipeError(f"{key}: empty; a data set's name, a folder, a file or a glob is wanted")
    if part is not None and part[0] not in PARTS:
        raise RecipeError(f"data.holdout: part {part[0]!r} is not known; allowed: {', '.join(PARTS)}")
    if client and source not in WITH_COLUMNS:
        raise RecipeError(f"data.columns.client: source {source} has no clients; allowed: {', '.join(WITH_COLUMNS)}")
    if source == "sklearn":
        return open_set(path, content, columns, labelled=labelled, part=part, key=key, labels=labels)
    found: Source
    if source in WITH_COLUMNS:
        roles = Roles.of(content, columns, labelled=labelled, client=client, key=key, labels=labels)
        found = _with_columns(source, path, roles, separator=separator, chat=chat)
    elif columns:
        raise RecipeError(f"data.columns: source {source} has no columns; allowed: {', '.join(WITH_COLUMNS)}")
    elif content.payload.names != IMAGE_SCHEMA.names:
        raise RecipeError(f"data.source: folder is for images; allowed here: sklearn, {', '.join(WITH_COLUMNS)}")
    else:
        found = FolderSource(path, labelled=labelled, key=key, labels=labels, never_stop=never_stop)
    return found if part is None else CutSource(found, *part)


def _with_columns(source: str, path: str, roles: Roles, *, separator: str, chat: bool) -> Source:

    if source == "csv":
        return CsvSource(path, roles, separator)
    return JsonlSource(path, roles, chat=chat) if source == "jsonl" else ParquetSource(path, roles, chat=chat)
