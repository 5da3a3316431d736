"""Checks the contracts of generators, embedders, stores, custodies and views, in any test framework.

>>> from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
>>> from pe_beam.modalities.image import MODALITY
>>> check_generator(TextRender(TextRenderOptions(side=16), labels=["a"]), MODALITY, labels=["a"])
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.breach import ContractError
from pe_beam.contracts.breach import hold as _hold
from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.generator import Generator, Step
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.selfcheck import self_check
from pe_beam.contracts.view import View
from pe_beam.custody.suite import check_custody
from pe_beam.errors import RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.storage.suite import check_store

__all__ = ["ContractError", "check_custody", "check_embedder", "check_generator", "check_store", "check_view"]


def _rngs(ids: Sequence[int], purpose: str) -> list[np.random.Generator]:
    return [keyed_rng(0, 1, i, purpose) for i in ids]


def check_generator(
    generator: Generator, modality: Modality, *, labels: Sequence[str | None], deterministic: bool = True
) -> None:
    """Checks the contract of a generator on 8 candidates.

    Args:
      generator: built for `labels`.
      modality: the modality of the payload that the generator makes.
      labels: declared labels; [None] if there are none.
      deterministic: whether the same keys have to give the same bytes (false for remote services).

    Raises:
      ContractError: the row count or the columns are wrong, the parents were changed, the same keys gave other
        candidates, or a row depends on its batch.
    """
    asked = [labels[i % len(labels)] for i in range(8)]
    made = generator.random(asked, _rngs(range(8), "random"))
    _check_rows(made, 8, modality, "random")
    parents = made.append_column("label", pa.array(asked, pa.string()))
    step = Step(iteration=1, iterations=2, degree=0.5)
    before = parents.slice(0)
    varied = generator.vary(parents, step, _rngs(range(8), "vary"))
    _check_rows(varied, 8, modality, "vary")
    _hold(parents.equals(before), "vary: the parents were changed")
    nothing = generator.vary(parents.slice(0, 0), step, [])
    _check_rows(nothing, 0, modality, "vary of nothing")
    if deterministic:
        again = generator.random(asked, _rngs(range(8), "random"))
        _hold(again.equals(made), "random: the same keys gave other candidates")
        alone = generator.vary(parents.slice(3, 1), step, _rngs([3], "vary"))
        _hold(alone.equals(varied.slice(3, 1)), "vary: a row depends on the batch that it comes in")


def _check_rows(made: pa.Table, count: int, modality: Modality, what: str) -> None:
    _hold(made.num_rows == count, f"{what}: {made.num_rows} rows where {count} were asked for")
    wanted = {"state", *modality.payload.names}
    _hold(set(made.column_names) == wanted, f"{what}: columns {made.column_names} where {sorted(wanted)} are wanted")
    for state in made["state"].to_pylist():
        if state is not None:
            json.loads(state)
    for field in modality.payload:
        _hold(made.schema.field(field.name).type == field.type, f"{what}: {field.name} is not {field.type}")


def check_embedder(embedder: Embedder, records: pa.Table, *, bad: pa.Table | None = None) -> None:
    """Checks the contract of an embedder.

    Args:
      embedder: any embedder.
      records: at least two rows that the embedder can embed.
      bad: rows that the embedder has to report as faults.

    Raises:
      ContractError: a wrong shape or dtype, values that are not finite, wrong faults, or a vector that depends on the
        other records. The vectors are those of `records` and of the embedder's self-check.
    """
    found = embedder.embed(records)
    shape = (records.num_rows, embedder.dimension)
    _hold(found.vectors.shape == shape, f"embed: shape {found.vectors.shape} where {shape} is wanted")
    _hold(found.vectors.dtype == np.float32, f"embed: {found.vectors.dtype} where float32 is wanted")
    _hold(not found.faults, "embed: good records were called faulty")
    _hold(bool(np.isfinite(found.vectors).all()), "embed: values that are not finite")
    _hold(len(np.unique(found.vectors, axis=0)) > 1, "embed: different records became one vector")
    _hold(
        embedder.embed(records.slice(0, 0)).vectors.shape == (0, embedder.dimension), "embed: nothing has a shape too"
    )
    backwards = embedder.embed(records.take(pa.array(range(records.num_rows)[::-1], pa.int64()))).vectors[::-1]
    alone = [embedder.embed(records.slice(row, 1)).vectors for row in range(min(records.num_rows, 8))]
    _hold(
        np.array_equal(backwards, found.vectors) and np.array_equal(np.concatenate(alone), found.vectors[: len(alone)]),
        "embed: a record's vector depends on the records beside it; one record more could then move votes of others",
    )
    if bad is not None:
        faults = embedder.embed(bad).faults
        _hold(sorted(faults) == list(range(bad.num_rows)), "embed: bad records were not called faulty")
        _hold(all(fault.kind for fault in faults.values()), "embed: a fault without a kind")
    try:
        digests = [self_check(embedder) for _ in range(2)]
    except RecipeError as error:
        raise ContractError(f"trial: {error}") from None
    _hold(digests[0] == digests[1], "trial: the second self-check found other vectors")


class _Outline(HTMLParser):
    """Collects the elements of an HTML text, and whether each opened element is closed in order."""

    _VOID = frozenset({"br", "hr", "img", "wbr", "col", "input", "source"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.balanced = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.balanced &= bool(self.open) and self.open.pop() == tag


def check_view(modality: Modality, records: Sequence[Mapping[str, Any]]) -> None:
    """Checks the contract of a modality's view: a report may show its HTML in a link and beside other records.

    Args:
      modality: a modality with a view.
      records: two or more rows of a population. Put hostile content into them.

    Raises:
      ContractError: the HTML has unclosed elements, scripts, focusable elements or ids, loads something from outside,
        or differs the second time; or a gallery leaves out a record.
    """
    _hold(modality.view is not None, "view: the modality has none")
    drawn = [_drawn(modality.view(), records) for _ in range(2)]  # type: ignore[misc]  # held just above
    _hold(drawn[0] == drawn[1], "view: the same records were drawn otherwise the second time")


def _drawn(view: View, records: Sequence[Mapping[str, Any]]) -> list[str]:
    pieces: list[Any] = []
    for record, parent in zip(records, [None, *records], strict=False):
        for shown in (view.fragment(record), view.fragment(record, parent, large=True)):
            _check_html(shown, "fragment", forbidden={"a", "button", "input", "select", "textarea", "details"})
            pieces.append(shown)
        _hold(bool(view.alt(record).strip()), "alt: empty")
        pieces.append(view.alt(record))
    linked: list[int] = []

    def link(record: Mapping[str, Any], shown: Any) -> Any:
        linked.append(record["candidate_id"])
        _check_html(shown, "what a gallery links", forbidden={"a", "button"})
        return shown

    gallery = view.gallery(records, link)
    _check_html(gallery, "gallery")
    _hold(linked == [record["candidate_id"] for record in records], "gallery: each record is linked once, in order")
    css = view.css()
    _hold(not re.search(r"url\((?!['\"]?data:)|@import|</style", css), "css: it asks for something from outside")
    return [*map(str, pieces), str(gallery), css]


def _check_html(shown: Any, what: str, *, forbidden: frozenset[str] | set[str] = frozenset()) -> None:
    _hold(hasattr(shown, "__html__"), f"{what}: not Markup, so that nothing says that it is escaped")
    outline = _Outline()
    outline.feed(str(shown))
    _hold(outline.balanced and not outline.open, f"{what}: elements that are not closed in order")
    bad = outline.seen & ({"script", "style", "iframe", "link", "object", "embed", "form", "template"} | forbidden)
    _hold(not bad, f"{what}: {sorted(bad)} may not be in it")
    names = {name for name in outline.attributes if name.startswith("on") or name in ("id", "tabindex", "href")}
    _hold(not names or what == "gallery", f"{what}: attributes {sorted(names)} may not be in it")
    outside = re.search(r"(src|srcset|href|xlink:href|data)=[\"']?(?!data:|#)", str(shown))
    _hold(outside is None, f"{what}: it asks for something from outside")
