"""Jobs that are left to themselves: what a launch on Dataflow refuses, and how client ids are hidden there."""

from __future__ import annotations

import pytest

from pe_beam.errors import InputError
from pe_beam.runners.leaving import LeavingRunner, leaves
from pe_beam.storage import open_store

DATAFLOW = ["--runner=DataflowRunner", "--project=my-project", "--region=europe-west4"]
KEY = "--gbek=type:GcpSecret;version_name:projects/my-project/secrets/shuffle/versions/1"


@pytest.mark.parametrize(
    ("flags", "client_ids", "refused"),
    [
        (DATAFLOW, True, "--gbek: missing"),
        ([*DATAFLOW, "--gbek=none"], True, None),
        ([*DATAFLOW, KEY], True, None),
        ([*DATAFLOW, "--gbek=no key"], True, "--gbek=no key: is no key as Beam reads it"),
        (DATAFLOW, False, None),
        ([*DATAFLOW, "--experiments=enable_data_sampling"], False, "enable_data_sampling"),
        ([*DATAFLOW, "--enable_hot_key_logging"], False, "enable_hot_key_logging"),
        (["--runner=apache_beam.runners.dataflow.DataflowRunner"], True, "--gbek: missing"),
        (["--runner=dataflow"], True, "--gbek: missing"),
        (["--runner=DirectRunner"], True, None),
        ([*DATAFLOW, "--profiler_agent=coredump"], False, "--profiler_agent=coredump: workers' memory"),
        ([*DATAFLOW, "--profiler_agent=memray"], False, None),
        ([*DATAFLOW, "--staging_location=gs://runs/leaving/release"], False, "is in the run directory"),
        ([*DATAFLOW, "--staging_location=gs://runs/staging"], False, None),
    ],
)
def test_a_launch_on_dataflow_shows_nothing_private(
    flags: list[str], client_ids: bool, refused: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("memory://leaving")
    monkeypatch.setattr(store, "uri", "gs://runs/leaving")
    if refused is None:
        LeavingRunner().check(store, flags, client_ids=client_ids)
    else:
        with pytest.raises(InputError, match=refused):
            LeavingRunner().check(store, flags, client_ids=client_ids)


def test_a_launch_on_dataflow_wants_a_run_directory_that_workers_see() -> None:
    with pytest.raises(InputError, match="--run-dir memory://leaving: Dataflow's workers do not see it"):
        LeavingRunner().check(open_store("memory://leaving"), DATAFLOW, client_ids=False)


def test_flags_that_leave_a_job() -> None:
    assert leaves(["--template_location=gs://my-staging/templates/embed"])
    assert leaves(["--no_wait_until_finish"])
    assert not leaves(DATAFLOW)
