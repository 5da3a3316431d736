"""Drivers that are killed, interrupted, or two at once: a step has one job, and the next driver finds it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest
import yaml

from pe_beam.driver import loop
from pe_beam.driver.status import status
from pe_beam.errors import InputError, PeBeamError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.runners.job import Job
from pe_beam.storage import open_store
from tests.commands import Command
from tests.runners.dataflow.conftest import QUICK, without
from tests.runners.dataflow.test_runs import digests
from tests.whole_runs import SMALL, Runs, release_digests

pytestmark = pytest.mark.xdist_group("dataflow")
SHORT: dict[str, Any] = {**SMALL, "evolution": {"iterations": 1, "samples": 20}}
UNREPORTED = "import pe_beam.driver.finalize as f; from tests.whole_runs import UNREPORTED; "
UNREPORTED += "f.report_bytes = lambda *_, **__: UNREPORTED\n"


def started(cloud: SimpleNamespace, folder: Path, runs: Runs, before: str = "") -> Command:
    """`pe-beam run` of the short recipe."""
    recipe = folder / "short.yaml"
    recipe.write_text(yaml.safe_dump(SHORT))
    given = "run", str(recipe), "--run-dir", cloud.uri, "--secret-file", str(runs.secret_file), "--", *cloud.flags
    return Command(*given, before=QUICK + UNREPORTED + before)


def test_a_killed_driver_leaves_its_job_to_the_next(cloud: SimpleNamespace, runs: Runs, tmp_path: Path) -> None:
    """One is killed between submission and answer, the next while a job runs; the third ends the run."""
    service = cloud.service
    drivers: list[Command] = []

    def kill(job: Any) -> None:
        if "iteration-00" in job.name and len(drivers) == 1:
            os.kill(drivers[0].pid, signal.SIGKILL)

    service.created = kill
    drivers.append(started(cloud, tmp_path, runs))
    service.wait_for("iteration-00")
    with drivers[0] as first:
        pass
    assert first.poll() == -9
    service.hold = "iteration-01"
    drivers.append(started(cloud, tmp_path, runs))
    service.wait_for("iteration-01")
    with drivers[1] as second:
        time.sleep(0.2)
        second.kill()
    service.release()
    loop.evolve(parse_recipe(SHORT), cloud.uri, cloud.flags)
    names = service.names()
    assert [names.count(step) for step in ("ingest", "iteration-00", "iteration-01")] == [1, 1, 1], names
    local = runs.finished(SHORT)
    assert digests(cloud.uri) == release_digests(local)
    assert open_store(cloud.uri).read("ledger.jsonl") == (local / "ledger.jsonl").read_bytes()


def test_ctrl_c_and_status_say_which_job_goes_on(cloud: SimpleNamespace, runs: Runs, tmp_path: Path) -> None:
    cloud.service.hold = "iteration-00"
    with started(cloud, tmp_path, runs) as command:
        job = cloud.service.wait_for("iteration-00")
        limit = time.monotonic() + 60
        while not any(method == "GET" and job.id in path for method, path in cloud.service.requests):  # it waits for it
            assert time.monotonic() < limit
            time.sleep(0.02)
        assert status(cloud.uri)["shown_as"] == f"Dataflow job {job.name} (project a-project, region europe-west4)"
        os.kill(command.pid, signal.SIGINT)
        said = command.communicate(120)
    assert said.returncode == 130
    line = said.stderr.strip().splitlines()[-1].rpartition("\r")[2]
    assert "pe-beam: interrupted; the same command goes on from here" in line
    assert f"Dataflow job {job.name} (project a-project, region europe-west4) goes on" in line
    assert "Traceback" not in said.stderr
    assert not any(method == "PUT" for method, _ in cloud.service.requests)
    assert cloud.service._looked_at(job).current_state.name == "JOB_STATE_RUNNING"


def _graph(root: Any) -> Any:
    return root | "Start" >> beam.Create([0])


def test_drivers_that_submit_at_the_same_time_share_one_job(cloud: SimpleNamespace) -> None:
    """Both saw no active job: one submits, the other attaches to what it finds then."""
    store, service = open_store(cloud.uri), cloud.service
    job = Job(store, cloud.flags, run_id="00")
    asked = threading.Barrier(3)

    def meet(method: str, _: str) -> None:
        if method == "GET" and not service.jobs:
            asked.wait(120)

    service.refuse = meet
    failed: list[BaseException] = []

    def drive() -> None:
        try:
            job("Ingest", _graph)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert not failed
    assert len(service.jobs) == 1


def test_run_directories_of_one_recipe_do_not_share_jobs(cloud: SimpleNamespace) -> None:
    for place in ("a", "b"):
        Job(open_store(f"{cloud.uri}/{place}"), cloud.flags, run_id="00" * 32)("Ingest", _graph)
    first, second = (job.name for job in cloud.service.jobs.values())
    assert first != second
    assert first.rpartition("-")[0] == second.rpartition("-")[0]


def test_a_job_whose_work_is_there_is_not_submitted(cloud: SimpleNamespace) -> None:
    job = Job(open_store(cloud.uri), cloud.flags, run_id="00")
    job("Ingest", _graph, is_done=lambda: True)
    assert not cloud.service.jobs


def test_a_job_of_another_step_is_waited_for_first(cloud: SimpleNamespace) -> None:
    """Such as the unrolled job of a driver that was killed, before the job of an iteration."""
    service, store = cloud.service, open_store(cloud.uri)
    job, done = Job(store, cloud.flags, run_id="00"), threading.Event()
    service.hold = "evolution"
    first = threading.Thread(target=job, args=("Evolution", _graph), daemon=True)
    first.start()
    service.wait_for("evolution")

    def next_one() -> None:
        job("Iteration 04", _graph, is_done=lambda: False)
        done.set()

    second = threading.Thread(target=next_one)
    second.start()
    assert not done.wait(0.5)
    assert len(service.jobs) == 1
    service.release()
    second.join(240)
    first.join(240)
    assert len(service.jobs) == 2


def test_no_command_joins_the_evaluation_of_another(cloud: SimpleNamespace) -> None:
    service, job = cloud.service, Job(open_store(cloud.uri), cloud.flags)
    service.hold = "evaluate"
    first = threading.Thread(target=job, args=("Evaluate", _graph), daemon=True)
    first.start()
    while not service.jobs:
        time.sleep(0.01)
    with pytest.raises(PeBeamError, match=r"^Dataflow job pe-beam-evaluate-\w+ .* of an earlier command is active"):
        job("Evaluate", _graph, joins=False)
    service.release()
    first.join(240)


def test_another_region_is_refused_while_a_job_is_active(cloud: SimpleNamespace) -> None:
    service, store = cloud.service, open_store(cloud.uri)
    service.hold = "ingest"
    job = Job(store, cloud.flags)
    first = threading.Thread(target=job, args=("Ingest", _graph), daemon=True)
    first.start()
    while not service.jobs:
        time.sleep(0.01)
    service.regions.append("us-east1")
    elsewhere = [*without(cloud.flags, "--region"), "--region=us-east1"]
    with pytest.raises(InputError, match=r"job pe-beam-ingest-\w+ of this run is active in project a-proj"):
        Job(store, elsewhere)
    service.release()
    first.join(240)
    Job(store, elsewhere)


def test_a_driver_that_lost_its_lock_submits_nothing(cloud: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from pe_beam.errors import LockedError

    store = open_store(cloud.uri)
    job, asked = Job(store, cloud.flags), []

    def lose(_: Any) -> None:
        asked.append(1)
        if len(asked) > 1:
            raise LockedError("the run lock was lost")

    monkeypatch.setattr(type(store), "demand_lock", lose)
    with pytest.raises(LockedError):
        job("Ingest", _graph)
    assert not cloud.service.jobs
