"""Metadata and specs of Flex Templates: as generated, as Google's own classes read them, and as Dataflow takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pe_beam.launch import flex
from pe_beam.launch.flex import PROGRAMS, program_of
from tests.whole_runs import ROOT

dataflow = pytest.importorskip(
    "google.cloud.dataflow_v1beta3", reason="Flex Templates were NOT tested: no google-cloud-dataflow-client"
).types
FOLDER = ROOT / "templates/dataflow"


def test_committed_files_are_the_generated_ones() -> None:
    made = flex.files()
    assert {str(path.relative_to(ROOT)) for path in FOLDER.glob("*/*.json")} == set(made)
    for name, text in made.items():
        assert (ROOT / name).read_text() == text, f"{name}: run python -m pe_beam.launch.flex"


def strict(kind: Any, value: dict[str, Any]) -> Any:
    """A message of Google's; unknown fields and values of enumerations are errors."""
    return kind.from_json(json.dumps(value), ignore_unknown_fields=False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_googles_classes_read_metadata_and_spec_without_a_rest(name: str) -> None:
    metadata, spec = (json.loads((FOLDER / name / f"{what}.json").read_text()) for what in ("metadata", "spec"))
    found, whole = strict(dataflow.TemplateMetadata, metadata), strict(dataflow.ContainerSpec, spec)
    assert whole.metadata == found
    assert found.name and found.description
    assert whole.sdk_info.language == dataflow.SDKInfo.Language.PYTHON
    assert whole.default_environment.sdk_container_image == whole.image, "workers run the launcher's image"
    table = {each.name: each for each in program_of(name).parameters if each.launched}
    assert [each.name for each in found.parameters] == list(table)
    for each in found.parameters:
        assert each.is_optional == table[each.name].optional
        assert each.label and each.help_text.endswith(".")
        assert each.param_type != dataflow.ParameterType.DEFAULT
        assert [option.value for option in each.enum_options] == list(table[each.name].choices)


def test_the_strict_reading_is_strict() -> None:
    good = {"name": "a", "parameters": [{"name": "b", "paramType": "TEXT"}]}
    strict(dataflow.TemplateMetadata, good)
    for wrong in (
        {"title": "a"},
        {"parameters": [{"name": "b", "paramType": "WORD"}]},
        {"parameters": [{"names": "b"}]},
    ):
        with pytest.raises(Exception, match=r"no field named|Invalid enum"):
            strict(dataflow.TemplateMetadata, {**good, **wrong})


GOOD = {"recipe": "gs://my-bucket/r/digits.yaml", "run_dir": "gs://my-bucket/runs/a", "iteration": "12"}
BAD = {"recipe": "digits.yaml", "run_dir": "/runs/a", "iteration": "-1", "against": "data/holdout"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_regular_expressions_take_what_the_parser_takes(name: str) -> None:
    """Dataflow reads them as RE2, which has no look-around and no back references: none may be used."""
    for each in flex.metadata(program_of(name))["parameters"]:
        for expression in each.get("regexes", []):
            assert not re.search(r"\(\?[=!<]|\\[1-9]", expression)
            if each["name"] in GOOD:
                assert re.match(expression, GOOD[each["name"]])
            assert not re.match(expression, BAD[each["name"]])


def test_specs_of_an_image_of_ones_own(tmp_path: Path) -> None:
    image = "europe-docker.pkg.dev/p/r/pe-beam-PROGRAM:1"
    assert flex.main([f"--image={image}", f"--to={tmp_path}"]) == 0
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {name: spec["image"] for name, spec in found.items()} == {
        name: f"europe-docker.pkg.dev/p/r/pe-beam-{name}:1" for name in PROGRAMS
    }
    for wrong in (["--image=x-PROGRAM"], ["--image=x", f"--to={tmp_path}"]):
        with pytest.raises(SystemExit):
            flex.main(wrong)
