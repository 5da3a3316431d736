"""A look before a run at what a language model is told and what it answers."""

from __future__ import annotations

from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pe_beam.cli.previewing import lines_of
from pe_beam.contracts.makers import without_maker
from pe_beam.driver.preview import make_preview
from pe_beam.driver.preview_page import page_of
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.parts import find_modality
from pe_beam.report.plain import view_of
from tests.modalities.text.recipes import serve
from tests.modalities.text.server import Served


def test_what_a_model_is_told_and_answers_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(texts["data"]["path"]).unlink()  # a preview does not need the private data
    texts["generator"]["random"]["user"] = "<b>Write</b> a {label} text on {thing}, {tone}."
    texts["execution"]["llm"]["price"] = {"input": 1000, "output": 1000}
    with Served(tmp_path / "log") as server:
        recipe = parse_recipe(serve(texts, server))
        preview = make_preview(recipe, 4)
        assert len(server.requests()) == sum(len(one.exchanges) for one in [*preview.made, *preview.varied]) == 8
    assert (
        preview.made[0].exchanges[0].prompt.startswith("[system] You write.\n[user] <b>Write</b> a good text on soup")
    )
    assert [one.record["text"] for one in preview.made] == [one.exchanges[-1].answer for one in preview.made]
    assert preview.used["calls"] == 8
    assert preview.used["money"] > 0
    modality = find_modality(recipe)
    shown = "\n".join(lines_of(preview, view_of(modality)))
    assert "a good text on soup" in shown
    assert "this preview took 8 calls" in shown
    page = page_of(preview, modality).decode()
    assert "<b>Write" not in page
    assert "<b>Write</b> a good text on soup" in unescape(page)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]  # it leaves nothing behind


def test_exchanges_belong_to_the_rows_of_their_maker(tmp_path: Path, texts: dict[str, Any]) -> None:
    own = texts.pop("generator")
    other = own | {"random": own["random"] | {"user": "Another: {label}, {thing}."}}
    texts["generators"] = [{"name": "one", "generator": own}, {"name": "two", "generator": other}]
    with Served(tmp_path / "log") as server:
        preview = make_preview(parse_recipe(serve(texts, server)), 8)
    makers = [without_maker(one.record["state"])[0] for one in preview.made]
    assert set(makers) == {"one", "two"}
    for maker, one in zip(makers, preview.made, strict=True):
        assert ("Another:" in one.exchanges[0].prompt) == (maker == "two")
        assert one.exchanges[-1].answer == one.record["text"]
