"""What the documents point to is there."""

import re
from pathlib import Path

import pytest
import yaml

from pe_beam.cli import reference
from pe_beam.recipe.loading import parse_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.split("#")[0]
        if "://" not in path:
            assert (page.parent / path).exists(), f"{page.name}: {target} is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_are_named_exist(page):
    for name in re.findall(r"`((?:pe_beam|pipelines|templates|tests|benchmarks|docs)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name.split("::")[0]).exists(), f"{page.name}: {name} is not there"


def test_the_reference_of_the_command_line_is_current():
    assert (ROOT / reference.FILE).read_text() == reference.markdown(), "python -m pe_beam.cli.reference writes it"


def test_examples_of_data_are_recipes(small):
    """Those of docs/images.md, as they stand there."""
    text = (ROOT / "docs/images.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)]
    found = [block["data"] for block in blocks if "data" in block]
    assert len(found) >= 8
    for data in found:
        parse_recipe(small | {"data": {"source": "folder", "path": "x", "labels": ["a"], **data}})


def test_whole_recipes_on_pages_are_recipes():
    """One whose schema is a file beside it is not whole (tests/streams/test_docs.py has that of docs/streams.md)."""
    found = 0
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            raw = yaml.safe_load(block)
            whole = isinstance(raw, dict) and raw.keys() >= {"data", "generator", "privacy"}
            if whole and not isinstance(raw["data"].get("schema"), str):
                parse_recipe(raw)
                found += 1
    assert found >= 3


def test_the_translated_script_is_a_recipe():
    text = (ROOT / "docs/coming-from-dpsda.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert parse_recipe(yaml.safe_load(block)).evolution.iterations == 4


def test_every_row_of_a_comparison_says_what_does_the_same_and_where():
    rows = [row for row in (ROOT / "docs/coming-from-dpsda.md").read_text().splitlines() if row.startswith("| ")]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 3 and all(cells), row
        assert cells[2] in ("works", "all recipes", "any run") or re.search(r"\]\(|`", cells[2]), row
