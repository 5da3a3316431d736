"""A Dataflow on this machine: the REST API that Beam's client speaks, and jobs that really run.

It takes a job as the service does, reads the staged `pipeline.pb` from the bucket that the job names, and runs it on
Beam's FnApiRunner in a process of its own, with the container swapped for this Python. A name has one active job.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from google.cloud import dataflow

from tests.forks import ROOT, Fork

PROJECT, REGION = "a-project", "europe-west4"
STATE = dataflow.JobState
ACTIVE = {STATE.JOB_STATE_RUNNING, STATE.JOB_STATE_PENDING, STATE.JOB_STATE_QUEUED, STATE.JOB_STATE_CANCELLING}
_PATH = re.compile(r"/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/]+))?(?:/(messages|metrics))?")
_NAME = re.compile(r"^pe-beam-(.*?)(-[0-9a-f]{12}|-00)?-[0-9a-f]{12}$")
_LABEL = re.compile(r"[a-z][-_a-z0-9]{0,62}")


class RefusalError(Exception):
    """What the service does not do: status and text of its answer."""


class Dataflow:
    """The service.

    Attributes:
      jobs: all jobs that were submitted, by id, in order.
      requests: method and path of each request.
      refuse: called with method and path; what it returns, (status, text), is the answer.
      regions: where it takes jobs.
      created: called with each new job before its answer is sent.
      hold: jobs whose name holds this text wait before they begin, until it is "".
      environment: of the processes that run jobs.
      before: Python that such a process executes first.
    """

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[str, dataflow.Job] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse: Callable[[str, str], tuple[int, str] | None] = lambda *_: None
        self.created: Callable[[dataflow.Job], None] = lambda _: None
        self.regions = [REGION]
        self.hold = ""
        self.environment: dict[str, str] = {}
        self.before = ""
        self.submitted = threading.Condition()
        self._folder = folder
        self._errors: dict[str, str] = {}
        self._processes: dict[str, Fork] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Steps of all jobs, in order: their names without what all have."""
        return [
            re.sub(r"^pe-beam-(.*?)(-[0-9a-f]{12}|-00)?-[0-9a-f]{12}$", r"\1", job.name) for job in self.jobs.values()
        ]

    def wait_for(self, step: str, timeout: float = 240) -> dataflow.Job:
        """Waits until a job of a step was submitted."""
        with self.submitted:
            assert self.submitted.wait_for(lambda: step in self.names(), timeout), self.names()
        return list(self.jobs.values())[self.names().index(step)]

    def pipeline(self, job: dataflow.Job) -> str:
        """Where a job's graph lies."""
        return str(_options_of(job)["pipelineUrl"])

    def stop(self) -> None:
        """Ends all jobs."""
        for process in self._processes.values():
            process.kill()

    # --- what is asked -----------------------------------------------------------------------------------------

    def answer(self, method: str, url: str, body: bytes) -> str:
        """The JSON of an answer; raises RefusalError."""
        path, query = urlparse(url).path, parse_qs(urlparse(url).query)
        self.requests.append((method, path))
        refused = self.refuse(method, path)
        if refused is not None:
            raise RefusalError(*refused)
        found = _PATH.fullmatch(path)
        if found is None or found[1] != PROJECT or found[2] not in self.regions:
            raise RefusalError(404, "The requested project or region was not found")
        with self._lock:
            if method == "POST":
                return _json(self._create(dataflow.Job.from_json(body, ignore_unknown_fields=True), found[2]))
            if found[3] is None:
                return dataflow.ListJobsResponse.to_json(dataflow.ListJobsResponse(jobs=self._listed(query, found[2])))
            if found[3] not in self.jobs:
                raise RefusalError(404, f"Information about job {found[3]} could not be found")
            job = self._looked_at(self.jobs[found[3]])
            if method == "PUT":
                return _json(self._cancel(job))
            if found[4] == "messages":
                return self._messages(job)
            return "{}" if found[4] == "metrics" else _json(job)

    def _create(self, job: dataflow.Job, region: str) -> dataflow.Job:
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", job.name):
            raise RefusalError(400, "The workflow could not be created: invalid name")
        for key, value in job.labels.items():
            if not _LABEL.fullmatch(key) or not re.fullmatch(r"[-_a-z0-9]{0,63}", value):
                raise RefusalError(400, "The workflow could not be created: invalid label")
        for other in self.jobs.values():
            if (other.name, other.location) == (job.name, region) and self._looked_at(other).current_state in ACTIVE:
                return other  # with the request id of whoever came first: so Beam knows
        job.id = f"2026-11-27_00_00_00-{len(self.jobs) + 1:04d}"
        job.project_id, job.location, job.current_state = PROJECT, region, STATE.JOB_STATE_RUNNING
        self.jobs[job.id] = job
        said = self._folder / f"{job.id}.txt"
        given = (self.pipeline(job), str(said), str(self._held(job.name)), self.environment, self.before)
        program = f"from tests.runners.dataflow import service\nservice.run(*{given!r})"
        with open(os.devnull, "r+") as nothing:  # noqa: PTH123
            self._processes[job.id] = Fork(["-c", program], ROOT, [nothing.fileno()] * 3)
        with self.submitted:
            self.submitted.notify_all()
        self.created(job)
        return job

    def _held(self, name: str) -> Path:
        """A file that lets a job wait for as long as it is there."""
        path = self._folder / f"hold-{name}"
        if self.hold and self.hold in name:
            path.touch()
        return path

    def release(self) -> None:
        """Lets all jobs that wait go on."""
        self.hold = ""
        for path in self._folder.glob("hold-*"):
            path.unlink()

    def _listed(self, query: dict[str, list[str]], region: str) -> list[dataflow.Job]:
        wanted = query.get("filter", ["0"])[0]
        found = [self._looked_at(job) for job in self.jobs.values()]
        if wanted in ("ACTIVE", str(int(dataflow.ListJobsRequest.Filter.ACTIVE))):
            found = [job for job in found if job.current_state in ACTIVE]
        return [job for job in found if job.location == region and job.name == query.get("name", [job.name])[0]]

    def _looked_at(self, job: dataflow.Job) -> dataflow.Job:
        status = self._processes[job.id].wait(0)
        if job.current_state == STATE.JOB_STATE_RUNNING and status is not None:
            said = self._folder / f"{job.id}.txt"
            job.current_state = STATE.JOB_STATE_DONE if status == 0 else STATE.JOB_STATE_FAILED
            self._errors[job.id] = said.read_text() if said.exists() else "The worker lost contact with the service."
        return job

    def _cancel(self, job: dataflow.Job) -> dataflow.Job:
        if job.current_state in ACTIVE:
            self._processes[job.id].kill()
            job.current_state = STATE.JOB_STATE_CANCELLED
        return job

    def _messages(self, job: dataflow.Job) -> str:
        importance, found = dataflow.JobMessageImportance, []
        if job.current_state == STATE.JOB_STATE_FAILED:
            texts = [f"Error message from worker: generic::unknown: {self._errors[job.id]}"] * 4
            texts.append("Workflow failed. Causes: the work item was attempted on these workers: a-host-0 ...")
            for i, text in enumerate(texts):
                found.append(
                    dataflow.JobMessage(
                        id=f"{i}", time=f"2026-11-27T00:00:0{i}Z", message_importance=importance.JOB_MESSAGE_ERROR,
                        message_text=text,
                    )
                )  # fmt: skip
        return dataflow.ListJobMessagesResponse.to_json(dataflow.ListJobMessagesResponse(job_messages=found))


def _json(job: dataflow.Job) -> str:
    return str(dataflow.Job.to_json(job))


def _options_of(job: dataflow.Job) -> dict[str, Any]:
    return dict(job.environment.sdk_pipeline_options["options"])


class _Server(ThreadingHTTPServer):
    request_queue_size = 64


@contextlib.contextmanager
def running() -> Iterator[tuple[Dataflow, str]]:
    """The service and its endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        service = Dataflow(Path(folder))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # see tests/custody/servers.py

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    status, answer = 200, service.answer(self.command, self.path, body)
                except RefusalError as error:
                    status, text = error.args
                    answer = json.dumps({"error": {"code": status, "message": text, "status": "REFUSED"}})
                except Exception:
                    status, answer = 500, traceback.format_exc()
                data = answer.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # of a driver that was killed
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = _do

            def log_message(self, *_: Any) -> None:
                pass

        server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield service, f"http://localhost:{server.server_address[1]}"
        finally:
            service.stop()
            server.shutdown()
            server.server_close()


def run(url: str, said: str, held: str, environment: dict[str, str], before: str) -> None:
    """A job: all that a worker knows is the graph and its own environment."""
    os.environ.update(environment)
    os.setsid()  # Ctrl-C of a driver's terminal does not reach the machines of a service
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability import python_urns
    from apache_beam.portability.api import beam_runner_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from google.cloud import storage

    try:
        exec(before, {})
        while Path(held).exists():
            time.sleep(0.02)
        bucket, _, name = url.removeprefix("gs://").partition("/")
        data = storage.Client.create_anonymous_client().bucket(bucket).blob(name).download_as_bytes()
        proto = beam_runner_api_pb2.Pipeline.FromString(data)
        for environ in proto.components.environments.values():
            environ.urn, environ.payload = python_urns.EMBEDDED_PYTHON, b""
            del environ.dependencies[:]
        fn_runner.FnApiRunner().run_via_runner_api(proto, PipelineOptions([])).wait_until_finish()
    except BaseException:
        Path(said).write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)
