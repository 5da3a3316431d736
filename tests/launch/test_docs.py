"""docs/cloud.md and docs/stores.md: `pe-beam` and `python` commands are run as written, all others are parsed."""

from __future__ import annotations

import io
import json
import re
import runpy
import shlex
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pe_beam.cli.main import main as pe_beam
from pe_beam.launch.flex import PROGRAMS, program_of
from pe_beam.storage import open_store
from tests.launch.commands import commands, fault
from tests.storage.servers import Server, make_bucket
from tests.whole_runs import ROOT

pytestmark = pytest.mark.xdist_group("launch")
CLOUD, STORES = ROOT / "docs/cloud.md", ROOT / "docs/stores.md"
TEXT = CLOUD.read_text()
OURS = ("pe-beam ", "python ")
SCHEMES = {"gs", "s3", "az"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in which commands are run: some of them leave files."""
    for name in ("pe_beam", "pipelines", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def my_buckets(servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a bucket of a service, and lets libraries use it."""

    def make(kind: str, name: str) -> None:
        server = servers(kind)
        for variable, text in server.environment.items():
            monkeypatch.setenv(variable, text)
        make_bucket(server, name)

    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return make


def run_as_written(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command in this process, where imports are paid for already."""
    program, *words = shlex.split(command)
    if program == "pe-beam":
        assert pe_beam(words) == 0, command
        return
    assert program == "python"
    assert words[0] == "-m"
    monkeypatch.setattr(sys, "argv", words[1:])
    monkeypatch.delitem(sys.modules, words[1], raising=False)  # a process of its own has not imported it
    try:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    except SystemExit as left:
        assert not left.code, command


def test_commands_of_cloud_are_run_as_written(
    checkout: Path, my_buckets: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(
        "google.cloud.dataflow", reason="DataflowRunner was NOT tested: no google-cloud-dataflow-client"
    )
    for bucket in ("my-runs", "my-staging"):
        my_buckets("gs", bucket)
    recipe = (ROOT / "templates/recipes/digits.yaml").read_bytes()
    open_store("gs://my-staging/recipes").commit("digits.yaml", recipe)  # what `gcloud storage cp` does
    monkeypatch.setattr("pe_beam.console.begin", lambda line: None)  # it takes the process over
    for command in commands(CLOUD):
        if command.startswith(OURS) and "iris.csv" not in command:  # tests/test_wheel.py runs these two
            run_as_written(command, monkeypatch)
    assert {path.stem for path in (checkout / "specs").glob("*.json")} == set(PROGRAMS)
    assert (checkout / "samples.parquet").exists()
    job = json.loads(open_store("gs://my-staging/templates").read("embed"))
    packages = {each["name"]: each["location"] for each in job["environment"]["workerPools"][0]["packages"]}
    assert "workflow.tar.gz" in packages, "--setup_file: workers install what Beam made of it"
    _refuse_parts_missing(packages["workflow.tar.gz"])
    left = {name.split("/")[0] for name in open_store("gs://my-runs/trial").list_files()}
    assert left == {"ledger.jsonl", "recipe.yaml", "release", "secret.json"}, "purged"


def _refuse_parts_missing(location: str) -> None:
    """Looks whether the source package that Beam made of setup.py holds all that workers need."""
    data = open_store("gs://my-staging").read(location.partition("my-staging/")[2])
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    assert {"setup.py", "pipelines/iteration.py", "templates/dataflow/main.py"} <= inside
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "templates").rglob("*") if path.is_file()} <= inside


@pytest.mark.parametrize("kind", sorted(SCHEMES))
def test_commands_of_stores_are_run_as_written(
    kind: str, checkout: Path, my_buckets: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [each for each in commands(STORES) if each.startswith(OURS) and f"{kind}://" in each]
    assert own
    my_buckets(kind, "my-runs" if kind != "gs" else "my-runs-of-stores")
    for command in own:
        run_as_written(command.replace("gs://my-runs/", "gs://my-runs-of-stores/"), monkeypatch)


def test_no_command_is_left_out() -> None:
    for page in (CLOUD, STORES):
        for command in commands(page):
            if command.startswith("pe-beam"):
                assert any(f"{scheme}://" in command for scheme in SCHEMES), f"nothing runs it: {command}"


@pytest.mark.parametrize("command", [each for each in commands(CLOUD) + commands(STORES) if not each.startswith(OURS)])
def test_commands_of_other_programs_have_flags_that_these_document(command: str) -> None:
    assert fault(command) is None, command
    for path in re.findall(r"(?:^|[ =])((?:templates|docs|pe_beam)/[\w./-]+)", command):
        assert (ROOT / path).exists(), path


def test_the_look_at_flags_is_strict() -> None:
    assert fault("gcloud storage mv a b") == "not a command of the table"
    assert fault("gcloud dataflow jobs list --regions=x") == "unknown: ['--regions']"
    assert fault("gcloud dataflow flex-template run a --region=b") == "missing: ['--template-file-gcs-location']"
    assert fault("docker push a b") == "too many arguments"


@pytest.mark.parametrize("command", [each for each in commands(CLOUD) if "flex-template run" in each])
def test_launched_templates_get_their_own_parameters(command: str) -> None:
    told = dict(word.split("=", 1) for word in shlex.split(command) if word.startswith("--"))
    program = program_of(Path(told["--template-file-gcs-location"]).stem)
    given = dict(pair.split("=", 1) for pair in told["--parameters"].split(","))
    table = {each.name: each for each in program.parameters if each.launched}
    assert {name for name, each in table.items() if not each.optional} <= set(given) <= set(table)
    for name, value in given.items():
        assert re.fullmatch(table[name].pattern or ".*", value)


def test_variables_of_terraform_are_ones_that_it_declares() -> None:
    declared = set(
        re.findall(r'^variable "(\w+)"', (ROOT / "templates/dataflow/terraform/variables.tf").read_text(), re.M)
    )
    assert set(re.findall(r"-var=(\w+)=", TEXT)) <= declared
    assert set(re.findall(r"`(\w+)(?:=true)?`", TEXT)) & declared == {
        "data_buckets",
        "drivers",
        "kms_key",
        "secret_manager",
    }


def test_images_are_built_for_each_program_pushed_and_named_in_specs() -> None:
    built = re.findall(r"docker build .*PIPELINE=(\w+) -t (\S+) \.", TEXT)
    pushed = re.findall(r"docker push (\S+)", TEXT)
    (image,) = re.findall(r"--image=(\S+)", TEXT)
    assert built == [(name, image.replace("PROGRAM", name)) for name in PROGRAMS]
    assert pushed == [name for _, name in built]


def test_the_workflow_gets_what_it_reads() -> None:
    (data,) = re.findall(r"gcloud workflows run .*--data='(.*)'", TEXT)
    told = json.loads(data)
    read = set(re.findall(r"args\.(\w+)", (ROOT / "templates/dataflow/workflow.yaml").read_text()))
    assert set(told) == read


def test_the_example_of_costs_adds_up() -> None:
    """28.8 vCPU h: 4 workers of 4 vCPUs, for 20 minutes and 11 times 8 minutes."""
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) (.+?) \| ([\d.]+) per (.+?) \| ([\d.]+) \|$", TEXT, re.MULTILINE)
    hours = 4 * (20 + 11 * 8) / 60
    amounts = {row[0]: float(row[1]) for row in rows}
    assert amounts["vCPU of workers"] == pytest.approx(hours * 4)
    assert amounts["memory of workers"] == pytest.approx(hours * 15)
    assert amounts["disks of workers"] == pytest.approx(hours * 25)
    costs = [float(amount) * float(price) for _, amount, _, price, _, _ in rows]
    assert [f"{cost:.2f}" for cost in costs] == [row[-1] for row in rows]
    (total,) = re.findall(r"\*\*together\*\* \| \| \| \*\*([\d.]+)\*\*", TEXT)
    assert f"{sum(costs):.2f}" == total
    saved = 4 * 10 * 3 / 60 * (4 * 0.056 + 15 * 0.003557 + 25 * 0.000054)
    assert f"4 workers for 30 minutes less, {saved:.2f} USD" in TEXT


def test_the_yaml_of_the_page_builds() -> None:
    """Its example of the transforms, with the store of a test: what is spent there is spent for good."""
    from pe_beam.transforms import beam_yaml

    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    steps = yaml.safe_load(block.replace("gs://my-runs/flowers", "memory://the-yaml-of-the-page"))
    for step in steps:
        getattr(beam_yaml, step["type"])(**step["config"])
