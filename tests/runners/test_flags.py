"""Beam flags that Beam would leave out, or find out about in the middle of the first job."""

from __future__ import annotations

from collections.abc import Callable

import apache_beam as beam
import pytest
from apache_beam.runners.portability.prism_runner import PrismRunner

from pe_beam.errors import InputError
from pe_beam.runners.job import Job
from pe_beam.storage import open_store


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--runer=FlinkRunner", "--runer is not known; did you mean --runner?"),
        ("--client_shufle_key=gs://b/k", "--client_shufle_key is not known; did you mean --client_shuffle_key?"),
        ("--direct_num_worker=4", "did you mean --direct_num_workers?"),
        ("--runner=FlinkRuner", "--runner: 'FlinkRuner' cannot be made by Beam here; allowed: FnApiRunner"),
        ("--runner=no.such.Runner", "cannot be made by Beam here"),
        ("--direct_num_workers=many", "invalid int value"),
        ("--direct_num_workers=-2", "--direct_num_workers=-2: at least 1 is wanted, or 0"),
        ("--pickle_library=dull", "Beam flags (after --): "),
    ],
)
def test_a_mistyped_flag_is_refused_before_anything_is_read(flag: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Job(open_store("memory://flags"), [flag])
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["dataflow", "Dataflow", "DataflowRunner"])
def test_a_short_name_as_beam_takes_it_is_checked_as_the_long_one(name: str) -> None:
    with pytest.raises(InputError, match=r"--run-dir .*: Dataflow's workers do not see it"):
        Job(open_store("memory://flags"), [f"--runner={name}"])


def test_flags_of_other_runners_and_of_ones_own_options_pass() -> None:
    flags = ["--flink_master=local", "--client_shuffle_key=gs://b/k", "--my_table=records", "--parallelism=2"]
    assert Job(open_store("memory://flags"), flags).args[:4] == flags
    assert Job(open_store("memory://flags"), ["--runner=apache_beam.runners.direct.DirectRunner"]).on_this_machine


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num_workers=-3"], "Invalid value (-3) for option: num_workers"),
        (["--max_num_workers=0"], "Invalid value (0) for option: max_num_workers"),
        (["--num_workers=5", "--max_num_workers=2"], "num_workers (5) cannot exceed max_num_workers (2)"),
        (["--worker_zone=a", "--worker_region=b"], "worker_region and worker_zone are mutually exclusive"),
    ],
)
@pytest.mark.parametrize("leaves", [False, True])
def test_what_beam_refuses_of_dataflows_workers_is_refused_before_a_launch_spends(
    flags: list[str], said: str, leaves: bool
) -> None:
    with pytest.raises(InputError) as caught:
        Job(open_store("memory://flags"), ["--runner=DataflowRunner", *flags], leaves=leaves)
    assert str(caught.value).startswith(f"Beam flags (after --): {said}")


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("runner", ["DataflowRunner", "TestDataflowRunner"])
def test_records_on_a_disk_are_refused_where_no_worker_sees_it(runner: str, leaves: bool) -> None:
    disks = {"data.path": "people.csv"}
    with pytest.raises(
        InputError, match=r"^data\.path: people\.csv is on a disk, .*; a bucket is wanted, such as gs://"
    ):
        Job(open_store("memory://flags"), [f"--runner={runner}"], disks=disks, leaves=leaves)
    assert Job(open_store("memory://flags"), ["--runner=FnApiRunner"], disks=disks).on_this_machine


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner", "flink"])
def test_flink_makes_no_stream_of_a_batch_job(runner: str) -> None:
    """With checkpoints, which the cluster's own configuration may turn on, sources of a stream never end."""
    with pytest.raises(InputError, match="--streaming: all graphs are batch jobs"):
        Job(open_store("memory://flags"), [f"--runner={runner}", "--streaming"])


def test_prism_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"--prism_location=\./no/prism: there is no such file"):
        Job(open_store("memory://flags"), ["--runner=PrismRunner", "--prism_location=./no/prism"])
    job = Job(open_store("memory://flags"), ["--runner=PrismRunner"])
    said = "Unable to fetch remote prism binary at https://x/prism.zip: <urlopen error>"
    monkeypatch.setattr(PrismRunner, "run_pipeline", _raising(RuntimeError(said)))
    with pytest.raises(InputError, match=r"--prism_location: Beam cannot fetch Prism's program; docs/runners\.md says"):
        job("Nothing", lambda root: root | beam.Create([0]))


def _raising(error: Exception) -> Callable[..., None]:
    def run(*_: object) -> None:
        raise error

    return run
