"""The recipe and the manifest of the docs are what the program takes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import yaml

from pe_beam.cli.main import command_line
from pe_beam.recipe.loading import parse_recipe
from pe_beam.streams.promise import promise
from tests.pods import demand_few_rights

ROOT = Path(__file__).parents[2]


def test_the_recipe_of_the_docs_makes_a_promise():
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/streams.md").read_text(), flags=re.DOTALL)
    raw = yaml.safe_load(block)
    raw["data"]["schema"] = {"columns": {"age": {"type": "integer", "min": 0, "max": 99}}}
    recipe = parse_recipe(raw)
    assert recipe.stream.window.publishes(0) == datetime(2026, 12, 2, 4, tzinfo=UTC)
    assert promise(recipe)["epsilon"] <= 1


def test_the_cron_job_runs_a_command_that_there_is():
    job = yaml.safe_load((ROOT / "templates/kubernetes/stream-cronjob.yaml").read_text())
    spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    name, *arguments = spec["containers"][0]["command"]
    assert name == "pe-beam"
    assert command_line().parse_args(arguments).once
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    # The image's user has to be able to write to the volume.
    user = re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    told = spec["securityContext"]
    assert (told["runAsUser"], told["fsGroup"]) == (int(user[1]), int(user[1]))
    demand_few_rights(spec)
