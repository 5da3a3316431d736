"""Files around the package say what is there: the image of the command line, how to cite."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CFF = {"cff-version", "message", "title", "authors", "type", "abstract", "version", "license", "keywords", "references"}
REFERENCE = {"type", "title", "authors", "year", "collection-title", "url"}


def instructions(name: str = "Dockerfile") -> list[tuple[str, str]]:
    text = "\n".join(line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#"))
    lines = filter(None, map(str.strip, re.sub(r"\\\n", " ", text).splitlines()))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def let_in() -> list[str]:
    """What .dockerignore, which leaves all out, lets in again."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_the_image_is_made_of_files_that_are_there_and_let_in() -> None:
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() and source in let_in(), source
    copied = {source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]}
    named = re.findall(r'"(README\.md)"', (ROOT / "setup.py").read_text())
    included = re.search(r"^include (.*)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE)
    assert included and {*named, *included[1].split(), "pe_beam", "pipelines", "templates"} <= copied


@pytest.mark.parametrize("name", ["templates/dataflow/Dockerfile", "templates/flink/Dockerfile"])
def test_what_other_images_are_made_of_is_let_in_too(name: str) -> None:
    """They are built from the root as well, and heed the same .dockerignore."""
    for word, rest in instructions(name):
        if word == "COPY" and not rest.startswith("--from="):
            assert {source.split("/")[0] for source in rest.split()[:-1]} <= set(let_in())


def test_no_run_and_no_data_go_to_the_builder() -> None:
    for private in ("runs", "data", ".git", ".venv", "secret.key"):
        assert not any(fnmatch.fnmatch(private, allowed) for allowed in let_in())


def test_the_image_is_pinned_and_runs_without_rights() -> None:
    given = dict(rest.split("=") for word, rest in instructions() if word == "ARG")
    bases = [
        rest.split(" AS ")[0].replace("${PYTHON}", given["PYTHON"]) for word, rest in instructions() if word == "FROM"
    ]
    assert set(bases) == {"python:3.11-slim-bookworm"}
    last = [word for word, _ in instructions()]
    assert [rest for word, rest in instructions() if word == "USER"] == ["10001"]
    assert last.index("USER") > max(i for i, word in enumerate(last) if word in ("RUN", "COPY"))
    extras = re.findall(r'^        "(\w+)": \[', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert given["EXTRAS"] in extras
    command = next(rest for word, rest in instructions() if word == "ENTRYPOINT")
    assert command == '["pe-beam"]' and '"pe-beam = ' in (ROOT / "setup.py").read_text()


def test_the_citation_has_the_form_of_cff_1_2_0() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert set(cited) <= CFF and cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert all(isinstance(cited[key], str) for key in ("message", "title", "version", "license"))
    assert all(set(author) == {"name"} for author in cited["authors"])
    for each in cited["references"]:
        assert {"type", "title", "authors"} <= set(each) <= REFERENCE and isinstance(each["year"], int)
        assert each["type"] in ("article", "conference-paper")
        assert all(set(author) == {"family-names", "given-names"} for author in each["authors"])
