"""Beam flags that Beam would leave out, or find out about in the middle of the first job."""

from __future__ import annotations

import pytest

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
