"""Sections of a report about generators of pictures: their prompts, and answers that could not be used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pe_beam.contracts.view import History, Section

_MOST = 40
"""Prompts in the table, at most."""


def prompt_of(state: str | None) -> str | None:
    """Returns the prompt in a candidate's state, or None. A recipe of several generators wraps their states.

    >>> prompt_of('{"prompt": "a cat"}'), prompt_of('{"class": 3}'), prompt_of(None)
    ('a cat', None, None)
    """
    found: Any = json.loads(state) if state else None
    if isinstance(found, dict) and ("maker" in found or "filtered" in found):
        own = found.get("state")
        return prompt_of(own if isinstance(own, str) else json.dumps(own))
    prompt = found.get("prompt") if isinstance(found, dict) else None
    return prompt if isinstance(prompt, str) else None


def asked_sections(history: History) -> Sequence[Section]:
    """Returns prompts by their number of pictures in the first and the newest population, and rejected answers.

    It is empty if no picture has a prompt and no answer was rejected.
    """
    from pe_beam.report.html import join, table

    first, last = (_prompts(history, t) for t in (0, history.last))
    parts = []
    if first or last:
        order = sorted(first | last, key=lambda prompt: (-last[prompt], -first[prompt], prompt))
        rows = [(prompt, first[prompt], last[prompt]) for prompt in order[:_MOST]]
        caption = f"{len(rows)} of {len(order)} prompts, by pictures of the newest population"
        parts.append(table(("prompt", "first population", "newest"), rows, caption=caption))
    notes = {t: history.manifest(t).get("generation", {}) for t in history.iterations}
    if any(note.get("rejected_answers") or note.get("stand_ins") for note in notes.values()):
        rows_of = [
            (str(t), ", ".join(f"{kind} {count}" for kind, count in note.get("rejected_answers", {}).items()) or "none",
             int(note.get("stand_ins", 0)))
            for t, note in notes.items()
        ]  # fmt: skip
        parts.append(table(("iteration", "answers rejected", "stand-ins"), rows_of, caption="Pictures asked for again"))
    if not parts:
        return []
    lead = "What the model was asked for. A variation keeps its parent's words, so votes choose among prompts too."
    return [Section(key="prompts", title="Prompts", lead=lead, body=join(parts))]


def _prompts(history: History, iteration: int) -> Counter[str]:
    states = history.population(iteration, ["state"])["state"].to_pylist()
    return Counter(prompt for state in states if (prompt := prompt_of(state)) is not None)
