"""The job server that a process starts for its jobs: one for all of them, and another when it has ended."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from apache_beam.options.pipeline_options import JobServerOptions
from apache_beam.runners.portability import flink_runner as beams

from pe_beam.runners.flink import runner, watch


class _Server:
    """Listens where a job server would."""

    started: list[_Server]

    def __init__(self, options: Any) -> None:
        self.port = options.view_as(JobServerOptions).job_port
        self.stopped = False

    def start(self) -> None:
        self.started.append(self)
        self._listening = socket.create_server(("localhost", self.port))

    def end(self) -> None:
        """As Ctrl-C does, which reaches all processes of a terminal."""
        self._listening.close()

    def stop(self) -> None:
        self.end()
        self.stopped = True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The servers that were started."""
    _Server.started = []
    monkeypatch.setattr(beams, "FlinkJarJobServer", _Server)
    monkeypatch.setattr(watch, "start", lambda *_, **__: None)
    monkeypatch.setattr(runner, "_servers", {})
    yield _Server.started
    for each in _Server.started:
        runner._stop(each)


def test_one_that_has_ended_is_started_again(started: list[_Server]) -> None:
    """A notebook's stop ends it with the run: the next run in that notebook has to find one."""
    first = runner._own_job_server(["--runner=FlinkRunner"], "beam.jar")
    assert runner._own_job_server(["--runner=FlinkRunner"], "beam.jar") == first
    started[0].end()
    second = runner._own_job_server(["--runner=FlinkRunner"], "beam.jar")
    assert second == f"localhost:{started[1].port}" != first
    assert [each.stopped for each in started] == [True, False]


def test_jobs_of_other_flags_share_it_and_another_cluster_has_its_own(started: list[_Server]) -> None:
    """Each is a Java with hundreds of megabytes, which lives as long as this process."""
    flags = [
        ["--parallelism=1"],
        ["--parallelism=2"],
        ["--flink_master=a:1"],
        ["--parallelism=1"],
        ["--flink_master=a:1"],
    ]
    found = [runner._own_job_server(each, "beam.jar") for each in flags]
    assert found[0] == found[1] == found[3]
    assert found[2] == found[4] != found[0]
    assert len(started) == 2
