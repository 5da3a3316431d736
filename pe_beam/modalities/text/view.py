"""Texts in a report: blocks that mark the words that differ from the parent, lengths and refusals by iteration."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from pe_beam.contracts.view import View
from pe_beam.modalities.text.words import tokens_of, word_count

if TYPE_CHECKING:
    from pe_beam.contracts.view import History, Section

_SHORT, _WORDS_OF_ALT, _WORDS_COMPARED = 420, 12, 3000


class TextView(View):
    """Shows texts as blocks: in a gallery the beginning of each, alone the whole text."""

    tile = False
    gallery_size = 6

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """Returns the HTML of a text. New words are marked, and words that only the parent has are struck out."""
        text = record["text"]
        if parent is not None:
            inside = _changes(parent["text"], text)
        elif large or len(text) <= _SHORT:
            inside = Markup("{}").format(text)
        else:
            inside = Markup("{} …").format("".join(tokens_of(text[:_SHORT])[:-1]))
        return Markup('<span class="said" dir="auto">{}</span>').format(inside)

    def alt(self, record: Mapping[str, Any]) -> str:
        """Returns the first words."""
        words = record["text"].split()
        return " ".join(words[:_WORDS_OF_ALT])[:120] + (" …" if len(words) > _WORDS_OF_ALT else "")

    def sections(self, history: History) -> Sequence[Section]:
        """Returns lengths of texts, rejected answers and stand-ins by iteration."""
        from pe_beam.contracts.view import Section
        from pe_beam.report.html import table

        rows = []
        for iteration in history.iterations:
            texts = history.population(iteration, ["text"])["text"].to_pylist()
            words = np.array([word_count(text) for text in texts])
            least, middle, most = (float(np.percentile(words, q)) for q in (5, 50, 95))
            rejected, stand_ins = _answers(history.manifest(iteration).get("generation", {}))
            rows.append(
                (
                    str(iteration),
                    len(texts),
                    least,
                    middle,
                    most,
                    len(set(texts)),
                    rejected or "none",
                    stand_ins,
                )
            )
        head = ("iteration", "texts", "words, 5%", "median", "95%", "different", "answers rejected", "stand-ins")
        return [
            Section(
                key="texts",
                title="Lengths and answers",
                lead="A rejected answer was asked for again; where none could be used, the parent's text stands in.",
                body=table(head, rows, caption="Texts and answers by iteration"),
            )
        ]

    def css(self) -> str:
        """Returns the style of changed words."""
        return (
            ".said{white-space:pre-wrap;overflow-wrap:anywhere}"
            ".said ins{background:var(--accent-soft);text-decoration:none;border-radius:3px;padding:0 .1em}"
            ".said del{color:var(--muted)}"
        )


def _answers(generation: Mapping[str, Any]) -> tuple[str, int]:
    """Returns rejected answers by kind, and stand-ins, of a manifest's `generation`, summed over its generators."""
    notes = [generation, *(maker.get("summary", {}) for maker in generation.get("makers", {}).values())]
    rejected: Counter[str] = Counter()
    for each in notes:
        rejected.update(each.get("rejected_answers", {}))
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(rejected.items()))
    return told, sum(int(each.get("stand_ins", 0)) for each in notes)


def _changes(before: str, after: str) -> Markup:
    """Compares two texts word by word; of very long texts only the beginning."""
    old, new = tokens_of(before)[:_WORDS_COMPARED], tokens_of(after)[:_WORDS_COMPARED]
    parts: list[Markup] = []
    was, now = ([token.lstrip() for token in tokens] for tokens in (old, new))
    for kind, a, b, c, d in difflib.SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(Markup("{}").format("".join(new[c:d])))
            continue
        if a < b:
            parts.append(_marked("del", "".join(old[a:b])))
        if c < d:
            parts.append(_marked("ins", "".join(new[c:d])))
    return Markup("").join(parts)


def _marked(tag: str, run: str) -> Markup:
    """Returns a run of words in a tag, with the white space before them outside."""
    words = run.lstrip()
    return Markup("{}<{}>{}</{}>").format(run[: len(run) - len(words)], Markup(tag), words, Markup(tag))
