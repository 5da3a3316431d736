"""A job leaves nothing in the temporary folder of this machine: a stream makes some a window, for months."""

from __future__ import annotations

import atexit
import functools
import gc
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.runners.portability.portable_runner import PipelineResult
from apache_beam.transforms import environments

from pe_beam.contracts.runner import Graph, Runner
from pe_beam.runners.job import Job
from pe_beam.runners.options import Options
from pe_beam.runners.staging import let_go
from pe_beam.storage import open_store


class _Portable(Runner):
    """Makes what Beam's portable runners make for the workers of a job, and maybe fails."""

    fails = False

    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """See Runner."""
        options = Options(["--runner=FlinkRunner"]).view_as(PortableOptions)
        environment = environments.EmbeddedPythonGrpcEnvironment.from_options(options)
        other = threading.Thread(target=environments.python_sdk_dependencies, args=(options,))
        other.start()  # that of another program in this process, which may still want its own
        other.join()
        assert environment.artifacts()
        assert len(_left()) == 2
        if self.fails:
            raise ValueError


def _left() -> list[str]:
    return [path.name for path in Path(tempfile.gettempdir()).iterdir() if path.name.startswith("tmp")]


@pytest.mark.parametrize("fails", [False, True])
def test_what_beam_makes_for_workers_goes_with_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_Portable, "fails", fails)
    job = Job(open_store("memory://staging"), [])
    monkeypatch.setattr(job, "_runner", _Portable)
    if fails:
        with pytest.raises(Exception, match="the Beam job failed"):
            job("Staging", lambda root: root)
    else:
        job("Staging", lambda root: root)
    assert len(_left()) == 1


def test_a_job_that_is_over_is_let_go() -> None:
    """Beam keeps it for the end of the process, with its connections to the job server."""
    result, other = (PipelineResult(None, job, None, None, [lambda: None]) for job in ("one", "two"))
    for each in (result, other):  # as PortableRunner does
        atexit.register(functools.partial(each._cleanup, on_exit=True))
    held, kept = weakref.ref(result), weakref.ref(other)
    let_go(result)
    del result, each, other
    gc.collect()
    assert held() is None
    assert kept() is not None
    let_go(kept())
