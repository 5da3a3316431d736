"""Templates launched as Dataflow launches them: the real DataflowRunner, a real bucket, and no driver that waits."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
import yaml

from pe_beam.storage import open_store
from pipelines import embed, evolve, iteration
from tests.launch import service
from tests.storage.servers import Server
from tests.whole_runs import SECRET, SMALL, Runs, release_digests

BUCKET = "runs"
RECIPE = f"gs://{BUCKET}/recipes/small.yaml"

pytest.importorskip("google.cloud.dataflow", reason="DataflowRunner was NOT tested: no google-cloud-dataflow-client")


@pytest.fixture
def bucket(servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in servers("gs").environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # there is no metadata server here, which Beam would wait for
    open_store(f"gs://{BUCKET}/recipes").commit("small.yaml", yaml.safe_dump(SMALL).encode(), replace=True)


def test_embed_and_evolve_launched_as_templates_give_the_release_of_a_driven_run(bucket: None, runs: Runs) -> None:
    run_dir = f"gs://{BUCKET}/launched/run"
    store = open_store(run_dir)
    store.commit("private/secret.key", SECRET)
    store.commit("private/secret.supplied", b"")
    both = {"recipe": RECIPE, "run_dir": run_dir}
    assert embed.main(service.flags(BUCKET, "embed-1", both)) == 0
    service.run(BUCKET, "embed-1")
    assert evolve.main(service.flags(BUCKET, "evolve-1", both)) == 0
    assert len(store.read("ledger.jsonl").splitlines()) == 2, "before the job that spends it"
    assert not store.locked(), "the launcher has ended"
    service.run(BUCKET, "evolve-1")
    local = runs.finished(SMALL)
    names = store.list_files("release")
    found = {name.removeprefix("release/"): sha256(store.read(name)).hexdigest() for name in names}
    assert found == release_digests(local)
    assert store.read("ledger.jsonl") == (local / "ledger.jsonl").read_bytes()
    assert not store.exists("private/secret.key")
    # The same launch again: a job, and nothing made.
    assert iteration.main(service.flags(BUCKET, "again", {"run_dir": run_dir, "iteration": "2"})) == 0
    service.run(BUCKET, "again")
    # What the service is told: nothing private, neither recipe nor data, and the secret nowhere.
    for name in ("embed-1", "evolve-1", "again"):
        job = service.description(BUCKET, name)
        told = service.graph_of(BUCKET, job).SerializeToString() + str(job).encode()
        assert SECRET not in told and SECRET.hex().encode() not in told
        assert b"text-render" not in told and b"sklearn" not in told


def test_a_program_that_fails_leaves_no_job(bucket: None, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = f"gs://{BUCKET}/failing/run"
    assert evolve.main(service.flags(BUCKET, "early", {"recipe": RECIPE, "run_dir": run_dir})) == 2
    assert capsys.readouterr().err == (
        "evolve: private/embeddings: not frozen yet; launch `embed` first, and wait for its job\n"
    )
    missing = {"recipe": f"gs://{BUCKET}/recipes/none.yaml", "run_dir": run_dir}
    assert embed.main(service.flags(BUCKET, "missing", missing)) == 2
    assert capsys.readouterr().err.startswith(f"embed: recipe gs://{BUCKET}/recipes/none.yaml: cannot be read (")
    on_a_disk = {"recipe": RECIPE, "run_dir": "/tmp/run"}
    assert embed.main(service.flags(BUCKET, "disk", on_a_disk)) == 2
    for name in ("early", "missing", "disk"):
        with pytest.raises(FileNotFoundError):
            service.description(BUCKET, name)
