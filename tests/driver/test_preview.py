"""A look before a run: new candidates, how far variations go, and what a run does otherwise."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pe_beam.cli.main import main
from pe_beam.cli.previewing import lines_of
from pe_beam.cli.terminal import fitting
from pe_beam.contracts.generator import Exchange
from pe_beam.driver.html_file import demand_writable
from pe_beam.driver.preview import make_preview
from pe_beam.driver.preview_page import page_of
from pe_beam.errors import InputError
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.parts import find_modality
from pe_beam.report.plain import view_of


def test_pictures_and_their_distances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["preview", "digits", "--count", "12", "--json", "--html", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in found["new"]] == [*map(str, range(10)), "0", "1"]
    assert [one["parent_id"] for one in found["varied"]] == list(range(12))
    assert found["duplicates"] == 0
    assert 0 < found["median_distance_to_parent"] < found["median_distance_between_new"]
    for one in found["new"]:
        near = one["nearest"]
        assert near["candidate_id"] != one["candidate_id"]
    assert b"data:image/png" in page.read_bytes()
    assert main(["preview", "digits", "--count", "12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_what_a_run_does_otherwise_is_said() -> None:
    recipe = load_recipe("breast-cancer", [])
    assert recipe.privacy.measure is not None
    preview = make_preview(recipe, 3)
    assert any("counts of columns" in note for note in preview.notes)


@pytest.mark.parametrize("count", [0, 65])
def test_how_many_is_checked(count: int) -> None:
    with pytest.raises(InputError, match=r"--count .*: 1 to 64 is wanted"):
        make_preview(load_recipe("digits", []), count)


def test_signs_that_steer_a_terminal_are_not_printed() -> None:
    recipe = load_recipe("digits", [])
    preview = make_preview(recipe, 1)
    one = preview.made[0]
    hostile = type(one)(record={**one.record, "text": "\x1b[31mred\x07"}, exchanges=(), nearest=None, fault=None)
    shown = "\n".join(lines_of(type(preview)(**{**vars(preview), "made": [hostile]}), view_of(find_modality(recipe))))
    assert "\x1b" not in shown
    assert "[31mred" in shown
    assert "?[31mred" in fitting(shown, "ascii")
    assert fitting(shown, None) == shown


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("pe_beam.driver.preview.make_preview", lambda *_: asked.append(1))
    assert main(["preview", "digits", "--html", str(tmp_path / "none/page.html")]) == 2
    assert "--html" in capsys.readouterr().err
    assert not asked
    demand_writable(str(tmp_path / "page.html"))
    assert not [*tmp_path.iterdir()]


def test_halves_of_signs_in_an_answer_are_shown_as_others() -> None:
    recipe = load_recipe("digits", [])
    preview = make_preview(recipe, 1)
    told = [Exchange(row=0, prompt="say \ud83d", answer="\udc00</pre><script>")]
    heard = dataclasses.replace(preview, made=[dataclasses.replace(preview.made[0], exchanges=told)])
    page = page_of(heard, find_modality(recipe)).decode()
    assert "?&lt;/pre&gt;&lt;script&gt;" in page
