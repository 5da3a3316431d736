"""What a report shows of prompts and rejected pictures."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from pe_beam.modalities.image.asked import asked_sections
from pe_beam.modalities.image.view import ImageView


class Past:
    """A release of which only states and notes matter."""

    def __init__(self, states: list[list[str | None]], notes: list[dict[str, Any]]) -> None:
        self._states, self._notes = states, notes
        self.iterations = list(range(len(states)))
        self.last = self.iterations[-1]

    def manifest(self, iteration: int) -> dict[str, Any]:
        return {"generation": self._notes[iteration]} if self._notes[iteration] else {}

    def population(self, iteration: int, columns: object = None) -> pa.Table:
        return pa.table({"state": pa.array(self._states[iteration], pa.string())})


def sections(states: list[list[str | None]], notes: list[dict[str, Any]] | None = None) -> list[str]:
    past: Any = Past(states, notes or [{}] * len(states))
    return [str(section.body) for section in asked_sections(past)]


def test_prompts_are_counted_most_frequent_first_and_escaped() -> None:
    evil = '{"prompt": "<script>alert(1)</script>"}'
    (body,) = sections([['{"prompt": "a cat"}', evil], [evil, evil]])
    assert "<script>" not in body and "&lt;script&gt;" in body
    assert body.index("&lt;script&gt;") < body.index("a cat")
    assert "2 of 2 prompts" in body


def test_rejected_pictures_are_told_by_iteration() -> None:
    notes: list[dict[str, Any]] = [{}, {"rejected_answers": {"safety checker": 3}, "stand_ins": 1}]
    (body,) = sections([[None], ['{"class": 1}']], notes)
    assert "safety checker 3" in body


def test_nothing_is_said_where_nothing_was_asked_in_words() -> None:
    assert sections([[None], ['{"font": "x"}']]) == []


def test_the_prompt_is_read_aloud_cut_and_through_a_wrapper() -> None:
    state = json.dumps({"maker": "m", "state": json.dumps({"prompt": "y" * 500})})
    record = {"candidate_id": 7, "label": "x", "state": state}
    said = ImageView().alt(record)
    assert said.startswith("picture 7, label x, asked for as: yyy")
    assert len(said) < 260
    assert ImageView().alt(record | {"state": None}) == "picture 7, label x"
