"""What goes wrong before a job, or in one: each by one message that names flag or job, and tells nothing private."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest

from pe_beam.driver import loop
from pe_beam.errors import InputError, MissingExtraError, PeBeamError, StageError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.runners.dataflow.explain import DataflowError, explain_job
from pe_beam.runners.job import Job
from pe_beam.storage import open_store
from tests.runners.dataflow.conftest import without
from tests.whole_runs import SMALL

pytestmark = pytest.mark.xdist_group("dataflow")
FLAGS = [
    "--runner=DataflowRunner",
    "--dataflow_endpoint=http://localhost:9",
    "--no_auth",
    "--project=a-project",
    "--region=europe-west4",
    "--sdk_container_image=an/image",
]
SHORT: dict[str, Any] = {**SMALL, "evolution": {"iterations": 1, "samples": 20}}


def refused(flags: list[str], uri: str = "gs://runs/never-asked", *, client_ids: bool = False) -> str:
    """What is said, in one line and with status 2, before anything is asked of a service."""
    with pytest.raises(InputError) as caught:
        Job(open_store(uri), flags, client_ids=client_ids)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.fixture(autouse=True)
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.cloud.dataflow", reason="Dataflow was NOT tested: apache-beam[gcp] is not installed")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")


@pytest.mark.parametrize("flag", ["--project", "--region", "--sdk_container_image"])
def test_a_missing_flag_is_named(flag: str) -> None:
    assert refused(without(FLAGS, flag)).startswith(f"{flag}: missing; ")


@pytest.mark.parametrize("flag", ["--setup_file=./no/setup.py", "--extra_package=no.whl", "--requirements_file=no.txt"])
def test_a_file_for_workers_that_is_missing_is_named(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pe_beam.runners.dataflow.names.mark_of", lambda _: "0" * 12)
    assert refused([*FLAGS, flag]) == f"{flag}: there is no such file"


@pytest.mark.parametrize("uri", ["memory://a-run", "{folder}/run"])
def test_a_run_directory_that_no_worker_sees_is_refused(uri: str, tmp_path: Path) -> None:
    uri = uri.format(folder=tmp_path)
    assert refused(FLAGS, uri).startswith(f"--run-dir {uri}: Dataflow's workers do not see it; a store is wanted")


def test_files_of_jobs_lie_in_the_run_directory_or_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(FLAGS, "s3://runs/run").startswith("--temp_location: missing; gs://BUCKET/FOLDER is wanted where")
    said = refused([*FLAGS, "--temp_location=/tmp"], "s3://runs/run")
    assert said == "--temp_location=/tmp: gs://BUCKET/FOLDER is wanted"
    for place in ("", "/", "/release", "/release/tmp"):  # a graph is no part of a release, and `purge` would leave it
        said = refused([*FLAGS, f"--temp_location=gs://runs/never-asked{place}"])
        assert said.startswith(f"--temp_location=gs://runs/never-asked{place}: is in the run directory")
    monkeypatch.setattr("pe_beam.runners.dataflow.names.mark_of", lambda _: "0" * 12)
    for place in ("/work/tmp", "-too", "-too/release"):
        with pytest.raises(PeBeamError, match="Dataflow does not answer"):  # which is asked next
            Job(open_store("gs://runs/never-asked"), [*FLAGS, f"--temp_location=gs://runs/never-asked{place}"])


@pytest.mark.parametrize(
    "flag",
    [
        "--job_name=mine",
        "--template_location=gs://a/template",
        "--dry_run=True",
        "--update",
        "--streaming",
        "--enable_hot_key_logging",
        "--experiments=enable_data_sampling",
        "--experiments=enable_always_on_exception_sampling",
    ],
)
def test_a_flag_that_would_break_or_tell_something_is_refused(flag: str) -> None:
    assert refused([*FLAGS, flag]).startswith(f"{flag.partition('=')[0]}")


@pytest.mark.parametrize("project", ["12345", "My Project", "a"])
def test_a_project_is_its_id(project: str) -> None:
    assert "is no project id" in refused([*without(FLAGS, "--project"), f"--project={project}"])


def test_client_ids_are_shuffled_under_a_key_or_plainly_by_choice() -> None:
    said = refused(FLAGS, client_ids=True)
    assert said.startswith("--gbek: missing; privacy.unit is client")
    assert "--gbek='type:GcpSecret;" in said
    assert "--gbek=none" in said
    for wrong in ("a-secret", "type:Vault;name:x", "type:GcpSecret;colour:red"):
        assert refused([*FLAGS, f"--gbek={wrong}"], client_ids=True).startswith(f"--gbek={wrong}: is no key")


def test_packages_that_lack_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def lacking(name: str) -> Any:
        if name == "google_auth_httplib2":
            raise ModuleNotFoundError(name=name)
        return real(name)

    store = open_store("gs://runs/never-asked")
    monkeypatch.setattr(importlib, "import_module", lacking)
    monkeypatch.setattr("pe_beam.runners.dataflow.names.mark_of", lambda _: "0" * 12)
    with pytest.raises(MissingExtraError, match=r"needs the package 'google_auth_httplib2'; install pe_beam\[gcp\]"):
        Job(store, without(FLAGS, "--no_auth"))


@pytest.mark.parametrize(
    ("status", "text", "said", "code"),
    [
        (403, "Permission 'dataflow.jobs.list' denied", "--project: access to Dataflow is denied", 2),
        (403, "Dataflow API has not been used in project 1 before or it is disabled", "API is not enabled there", 2),
        (401, "Request had invalid authentication credentials", "there are no valid credentials", 2),
        (404, "not found", "knows no such project or region", 2),
        (429, "Quota exceeded", "a quota is used up", 1),
        (503, "The service is unavailable", "Dataflow does not answer", 1),
        (400, "no", "does not take the job or its flags", 1),
    ],
)
def test_what_the_service_refuses_is_said_before_anything_is_spent(
    cloud: SimpleNamespace, status: int, text: str, said: str, code: int
) -> None:
    cloud.service.refuse = lambda *_: (status, text)
    with pytest.raises(PeBeamError, match=said) as caught:
        loop.evolve(parse_recipe(SHORT), cloud.uri, cloud.flags)
    assert caught.value.exit_status == code
    assert "\n" not in str(caught.value)
    assert not open_store(cloud.uri).exists("ledger.jsonl")
    assert not open_store(cloud.uri).exists("private/secret.key")


def test_a_service_that_is_not_there_is_said(cloud: SimpleNamespace) -> None:
    flags = [*without(cloud.flags, "--dataflow_endpoint"), "--dataflow_endpoint=http://localhost:9"]
    with pytest.raises(DataflowError, match="Dataflow does not answer"):
        Job(open_store(cloud.uri), flags)


def test_a_project_or_region_that_is_not_there_is_said(cloud: SimpleNamespace) -> None:
    flags = [*without(cloud.flags, "--region"), "--region=europe-west99"]
    with pytest.raises(InputError, match=r"no such project or region \(project a-project, region europe-west99\)"):
        Job(open_store(cloud.uri), flags)


def test_a_bucket_for_staging_that_is_not_there_is_said(cloud: SimpleNamespace) -> None:
    with pytest.raises(InputError, match=r"^--temp_location, --staging_location: gs://nowhere-to-be-found/temp: files"):
        Job(open_store(cloud.uri), [*cloud.flags, "--temp_location=gs://nowhere-to-be-found/temp"])


def test_a_submission_that_is_refused_is_said(cloud: SimpleNamespace) -> None:
    cloud.service.refuse = lambda method, _: (403, "actAs denied") if method == "POST" else None
    job = Job(open_store(cloud.uri), cloud.flags)
    with pytest.raises(InputError, match=r"denied .*roles/iam\.serviceAccountUser"):
        job("Ingest", _graph)


def _graph(root: Any) -> Any:
    return root | "Start" >> beam.Create([0])


def failed(cloud: SimpleNamespace, before: str) -> tuple[PeBeamError, str]:
    """The error of a job whose worker executes some Python first, and what lies in private/errors."""
    cloud.service.before = before
    job = Job(open_store(cloud.uri), cloud.flags, run_id="00")
    with pytest.raises(PeBeamError) as caught:
        job("Iteration 01", _graph)
    store = open_store(cloud.uri)
    kept = [store.read(name).decode() for name in store.list_files("private/errors")]
    return caught.value, "".join(kept)


def test_an_error_of_a_worker_is_the_error_of_the_run(cloud: SimpleNamespace) -> None:
    """The guard of a stage raises it; the value that its cause held is in no message."""
    before = (
        "from pe_beam.engine import ingest\n"
        "def broken(*_): raise RuntimeError('the value 4711')\n"
        "ingest.list_pieces = broken\n"
    )
    cloud.service.before = before
    with pytest.raises(StageError) as caught:
        loop.evolve(parse_recipe(SHORT), cloud.uri, cloud.flags)
    assert str(caught.value).startswith("stage ListPieces failed (RuntimeError)")
    assert "4711" not in str(caught.value)
    store = open_store(cloud.uri)
    assert not store.exists("ledger.jsonl")
    outside = [name for name in store.list_files() if not name.startswith("private/")]
    assert not any(b"4711" in store.read(name) for name in outside)


def test_a_failure_of_unknown_cause_names_the_job_and_where_to_look(cloud: SimpleNamespace) -> None:
    error, kept = failed(cloud, "raise RuntimeError('the value 4711')")
    assert re.fullmatch(
        r"Iteration 01: Dataflow job pe-beam-iteration-01-00-[0-9a-f]{12} \(project a-project, region europe-west4\) "
        r"failed \(FAILED\); what it said is in private/errors/Iteration-01\.txt and on its page in the console",
        str(error),
    )
    assert "the value 4711" in kept


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("import os; os._exit(9)", "workers were lost, most often for lack of memory"),
        ("import pe_beam_of_nobody", "workers have no pe_beam"),
    ],
)
def test_a_known_cause_is_said(cloud: SimpleNamespace, before: str, said: str) -> None:
    error, _ = failed(cloud, before)
    assert said in str(error)
    assert "pe-beam-iteration-01-00-" in str(error)


def test_a_cancelled_job_is_said(cloud: SimpleNamespace) -> None:
    cloud.service.hold = "ingest"
    cloud.service.created = cloud.service._cancel
    job = Job(open_store(cloud.uri), cloud.flags)
    with pytest.raises(DataflowError, match=r"was cancelled; run again: a new job goes on from what is committed"):
        job("Ingest", _graph)


def test_a_service_that_falls_silent_leaves_the_job_running(cloud: SimpleNamespace) -> None:
    service = cloud.service
    service.hold = "ingest"
    service.refuse = lambda method, path: (403, "no more") if method == "GET" and service.jobs else None
    job = Job(open_store(cloud.uri), cloud.flags)
    with pytest.raises(DataflowError, match=r"^Dataflow job pe-beam-ingest-\w+ .* goes on, but Dataflow stopped"):
        job("Ingest", _graph)
    service.refuse = lambda *_: None
    service.release()
    job("Ingest", _graph)  # finds it, or makes another if it has ended
    assert len(service.jobs) in (1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Failed to retrieve secret bytes for secret x with exception 403", "--gbek"),
        ("Startup of the worker pool in zone x failed: ZONE_RESOURCE_POOL_EXHAUSTED", "no free machines"),
        ("QUOTA_EXCEEDED: Quota 'CPUS' exceeded. Limit: 8.0", "quota"),
        ("Error syncing pod, failed to 'StartContainer' with ErrImagePull", "image"),
        ("sa@x does not have storage.objects.get access", "lacks a right"),
        ("ModuleNotFoundError: No module named 'torch'", "its extra"),
        ("Machine type with name 'n9-huge' does not exist in zone 'europe-west4-a'.", "--machine_type"),
        ("Workflow failed. Causes: Network default is not accessible to Dataflow Service account", "--subnetwork"),
        ("Pipeline construction environment and pipeline runtime environment are not compatible", "same Python, Beam"),
    ],
)
def test_causes_are_known_by_what_dataflow_says(text: str, said: str) -> None:
    assert said in (explain_job(text) or "")
    assert explain_job("ValueError: 4711") is None
