"""The definition for Google Workflows: its structure, and what it does where jobs fail or are slow."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pe_beam.launch.flex import PROGRAMS, program_of
from tests.launch.workflows import (
    ENVIRONMENT,
    LAUNCH,
    LOOK,
    STANDARD,
    STEP,
    Workflow,
    WorkflowError,
    dotted,
    is_expression,
    parsed,
)
from tests.whole_runs import ROOT

DEFINITION: dict[str, Any] = yaml.safe_load((ROOT / "templates/dataflow/workflow.yaml").read_text())
ARGS = {"recipe": "gs://staging/recipes/mine.yaml", "run_dir": "gs://runs/runs/Mine_2", "iterations": 2}


def functions(service: Any, **environment: str) -> dict[str, Any]:
    return {
        **STANDARD,
        "sys.get_env": {**ENVIRONMENT, **environment}.__getitem__,
        LAUNCH: service.launch,
        LOOK: service.look,
    }


class Service:
    """Jobs that are looked at twice before they end."""

    def __init__(self, *, failing: str = "", as_state: str = "JOB_STATE_FAILED") -> None:
        self.launched: list[dict[str, Any]] = []
        self.failing, self.as_state, self.looks = failing, as_state, 0

    def launch(self, projectId: str, location: str, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        assert (projectId, location) == ("my-project", "europe-west1")
        self.launched.append(body["launchParameter"])
        return {"job": {"id": f"id-{len(self.launched)}"}}

    def look(self, projectId: str, location: str, jobId: str) -> dict[str, Any]:  # noqa: N803
        self.looks += 1
        name = self.launched[-1]["jobName"]
        assert jobId == f"id-{len(self.launched)}"
        if self.looks % 2:
            return {"currentState": "JOB_STATE_RUNNING"}
        return {"currentState": self.as_state if self.failing and self.failing in name else "JOB_STATE_DONE"}


def test_it_launches_embed_and_each_iteration_in_turn() -> None:
    service = Service()
    found = Workflow(DEFINITION, functions(service)).run(ARGS)
    assert found == "gs://runs/runs/Mine_2/release/report.html"
    names = [each["jobName"] for each in service.launched]
    assert names == [f"pe-gs-runs-runs-mine-2-{end}" for end in ("embed", "iteration-0", "iteration-1", "iteration-2")]
    specs = [each["containerSpecGcsPath"] for each in service.launched]
    assert specs == ["gs://staging/specs/embed.json", *["gs://staging/specs/iteration.json"] * 3]
    for launched, program in zip(service.launched, ("embed", *["iteration"] * 3), strict=True):
        table = {each.name: each for each in program_of(program).parameters if each.launched}
        assert set(launched["parameters"]) == set(table)
        for name, value in launched["parameters"].items():
            assert re.fullmatch(table[name].pattern or "", value), "parameters are texts"
        assert set(launched["environment"]) == {"serviceAccountEmail", "stagingLocation", "tempLocation"}
    assert service.looks == 8, "each job is waited for"


@pytest.mark.parametrize("state", ["JOB_STATE_FAILED", "JOB_STATE_CANCELLED"])
def test_it_stops_at_the_first_job_that_fails(state: str) -> None:
    service = Service(failing="iteration-1", as_state=state)
    with pytest.raises(WorkflowError, match=f"pe_beam iteration, job id-3, ended as {state}"):
        Workflow(DEFINITION, functions(service)).run(ARGS)
    assert len(service.launched) == 3


def test_key_and_subnetwork_are_passed_on_where_they_are_given() -> None:
    service = Service()
    Workflow(DEFINITION, functions(service, KMS_KEY="projects/p/key", SUBNETWORK="regions/r/subnetworks/s")).run(ARGS)
    told = service.launched[0]["environment"]
    assert told["kmsKeyName"] == "projects/p/key"
    assert (told["subnetwork"], told["ipConfiguration"]) == ("regions/r/subnetworks/s", "WORKER_IP_PRIVATE")


@pytest.mark.parametrize("run_dir", ["gs://b/" + "x" * 90, "gs://b/" + "a/" * 30, "gs://b/Ümläut", "gs://b/run/"])
def test_names_of_jobs_are_ones_that_dataflow_takes(run_dir: str) -> None:
    service = Service()
    Workflow(DEFINITION, functions(service)).run({**ARGS, "run_dir": run_dir})
    for launched in service.launched:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", launched["jobName"])


# --- structure -----------------------------------------------------------------------------------------------


def all_steps(steps: list[Any]) -> Iterator[tuple[str, dict[str, Any], set[str]]]:
    """Name and body of each step, and the names that `next` may say there."""
    names = {next(iter(step)) for step in steps}
    assert len(names) == len(steps), "a name twice"
    for step in steps:
        [(name, body)] = step.items()
        yield name, body, names
        inner = [*body.get("for", {}).get("steps", [])]
        for below in [inner, *(case.get("steps", []) for case in body.get("switch", []))]:
            for found, each, own in all_steps(below):
                yield found, each, own | names


def expressions(value: Any) -> Iterator[ast.expr]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from expressions(inner)
    elif is_expression(value):
        yield parsed(value)


@pytest.mark.parametrize("name", sorted(DEFINITION))
def test_steps_names_and_functions_resolve(name: str) -> None:
    own, known = DEFINITION[name], set(DEFINITION[name]["params"])
    called = set()
    for _, body, names in all_steps(own["steps"]):
        assert set(body) <= STEP
        goes = [body.get("next"), *(case.get("next") for case in body.get("switch", []))]
        assert {each for each in goes if each} <= names, "a step that is not there"
        known |= {target.split(".")[0] for each in body.get("assign", []) for target in each}
        known |= {body["result"]} if "result" in body else set()
        known |= {body["for"]["value"]} if "for" in body else set()
        called |= {body["call"]} if "call" in body else set()
    for node in (part for each in expressions(own["steps"]) for part in ast.walk(each)):
        if isinstance(node, ast.Call):
            called.add(dotted(node.func))
        elif isinstance(node, ast.Name) and node.id not in ("sys", "text", "len", "string", "if_"):
            assert node.id in known, f"{node.id}: assigned nowhere"
    assert called <= {*STANDARD, *DEFINITION, "sys.get_env", LAUNCH, LOOK}


def test_what_is_launched_are_our_templates_with_fields_that_google_knows() -> None:
    types = pytest.importorskip("google.cloud.dataflow_v1beta3").types
    service = Service()
    Workflow(DEFINITION, functions(service, KMS_KEY="k", SUBNETWORK="s")).run(ARGS)
    for launched in service.launched:
        types.LaunchFlexTemplateParameter.from_json(json.dumps(launched), ignore_unknown_fields=False)
        assert launched["containerSpecGcsPath"].rpartition("/")[2].removesuffix(".json") in PROGRAMS
