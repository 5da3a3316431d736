"""Prints a preview in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pe_beam.cli.terminal import printable
from pe_beam.contracts.view import View
from pe_beam.driver.preview import Preview, Shown
from pe_beam.wording import counted

_WIDTH = 100
_MOST = 600
"""Characters of a prompt, an answer or a candidate that are shown; the page and the JSON have all."""


def lines_of(preview: Preview, view: View) -> Iterator[str]:
    """Yields the lines that show a preview."""
    yield f"{preview.name}: {len(preview.made)} new candidates and a variation of each; no private data were read"
    for made, varied in zip(preview.made, preview.varied, strict=True):
        label = made.record["label"]
        yield ""
        yield f"candidate {made.record['candidate_id']}" + ("" if label is None else f", {label}")
        yield from _side("new", made, view)
        yield from _side("varied", varied, view)
    yield ""
    yield f"equal to an earlier new one: {preview.duplicates} of {len(preview.made)}"
    yield f"variations without a change: {preview.unchanged} of {len(preview.varied)}"
    if preview.spread is not None:
        yield f"median distance between new ones: {preview.spread:.4g}"
    if preview.moved is not None:
        yield f"median distance of a variation from its parent: {preview.moved:.4g}"
    for kind, count in sorted(_rejected(preview.summary).items()):
        yield f"answers rejected as {kind}: {count}"
    if preview.used:
        money = f", {preview.used['money']:.6g} {preview.used['currency']}" if "money" in preview.used else ""
        yield (
            f"this preview took {counted(preview.used['calls'], 'call')}, {preview.used['input_tokens']} tokens sent, "
            f"{preview.used['output_tokens']} received{money}"
        )
    yield f"a whole run makes {counted(preview.calls, 'candidate')}"
    for note in preview.notes:
        yield f"note: {note}"


def _side(head: str, shown: Shown, view: View) -> Iterator[str]:
    for each in shown.exchanges:
        yield from _block("asked", each.prompt)
        if each.answer is not None:
            yield from _block("answered", each.answer)
    text = shown.record.get("text")
    yield from _block(head, text if isinstance(text, str) else view.alt(shown.record))
    if shown.fault is not None:
        yield f"    cannot be embedded: {shown.fault}"
    elif shown.nearest is not None:
        other, distance = shown.nearest
        yield f"    {'from its parent' if head == 'varied' else f'nearest other: {other}, at'} {distance:.4g}"


def _block(head: str, text: str) -> Iterator[str]:
    """Wraps a text. What a model says may hold signs that steer a terminal: another sign stands for these."""
    shown = "\n".join(printable(line) for line in text[:_MOST].split("\n"))
    shown += " …" if len(text) > _MOST else ""
    first = f"  {head:<9}"
    for line in shown.split("\n"):
        for part in textwrap.wrap(line, _WIDTH - len(first)) or [""]:
            yield f"{first}{part}".rstrip()
            first = " " * len(first)


def _rejected(summary: Mapping[str, Any]) -> dict[str, int]:
    """Adds up rejected answers by kind over all parts of a summary."""
    found: dict[str, int] = {}
    for key, value in summary.items():
        if isinstance(value, Mapping):
            for kind, count in (value if key == "rejected_answers" else _rejected(value)).items():
                found[kind] = found.get(kind, 0) + count
    return found
