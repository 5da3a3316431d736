"""Templates launched as Dataflow launches them: the real DataflowRunner, real buckets, and no driver that waits."""

from __future__ import annotations

from hashlib import sha256

import pytest

from pe_beam.runners.dataflow.check import NO_SAMPLES
from pe_beam.storage import open_store
from pipelines import embed, evolve, iteration
from tests.launch import service
from tests.launch.conftest import RECIPE, RUNS, STAGING, Launched
from tests.whole_runs import SECRET, SMALL, release_digests
from tests.whole_runs import Runs as WholeRuns

pytestmark = pytest.mark.xdist_group("launch")  # one launched run for both modules that look at it


def test_a_launched_run_gives_the_release_of_a_driven_one(launched: Launched, buckets: None, runs: WholeRuns) -> None:
    local = runs.finished(SMALL)
    names = launched.store.list_files("release")
    found = {name.removeprefix("release/"): sha256(launched.store.read(name)).hexdigest() for name in names}
    assert found == release_digests(local)
    assert launched.store.read("ledger.jsonl") == (local / "ledger.jsonl").read_bytes()
    assert not launched.store.exists("private/secret.key")
    # A line before the job that spends it, and nobody who holds the run while the job runs.
    assert launched.states == [(0, False), (0, False), (1, False), (2, False)]


def test_a_launch_of_what_is_done_gives_the_service_a_job(launched: Launched, buckets: None) -> None:
    of = {"run_dir": launched.store.uri, "iteration": "2"}
    assert iteration.main(service.flags(STAGING, "again", of)) == 0
    before = launched.store.list_files()
    service.run(service.staged(STAGING, "again"))
    assert launched.store.list_files() == before


def test_the_service_is_told_nothing_private(launched: Launched, buckets: None) -> None:
    """Neither secret nor recipe nor data, in the description of a job or in its graph."""
    assert len(launched.jobs) == 4
    for name in launched.jobs:
        job = service.description(STAGING, name)
        told = service.staged(STAGING, name).SerializeToString() + str(job).encode()
        assert RUNS.encode() in told, "the look is at the right thing"
        assert NO_SAMPLES in job["environment"]["sdkPipelineOptions"]["options"]["experiments"]
        for hidden in (SECRET, SECRET.hex().encode(), b"text-render", b"sklearn", b"epsilon"):
            assert hidden not in told
    staged = {name.rpartition("/")[2] for name in open_store(f"gs://{STAGING}/staging").list_files()}
    assert staged == {"job_object", "pipeline.pb", "submission_environment_dependencies.txt"}


def test_a_program_that_fails_leaves_no_job(buckets: None, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = f"gs://{RUNS}/failing/run"
    assert evolve.main(service.flags(STAGING, "early", {"recipe": RECIPE, "run_dir": run_dir})) == 2
    assert capsys.readouterr().err == (
        "evolve: private/embeddings: not frozen yet; launch `embed` first, and wait for its job\n"
    )
    missing = {"recipe": f"gs://{STAGING}/recipes/none.yaml", "run_dir": run_dir}
    assert embed.main(service.flags(STAGING, "missing", missing)) == 2
    assert capsys.readouterr().err.startswith(f"embed: recipe gs://{STAGING}/recipes/none.yaml: cannot be read (")
    on_a_disk = {"recipe": RECIPE, "run_dir": "/tmp/run"}
    assert embed.main(service.flags(STAGING, "disk", on_a_disk)) == 2
    for name in ("early", "missing", "disk"):
        with pytest.raises(FileNotFoundError):
            service.description(STAGING, name)
