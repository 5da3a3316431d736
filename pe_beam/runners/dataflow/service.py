"""What is asked of the Dataflow service, by Beam's own client: which job is active, its end and its messages."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions

from pe_beam.errors import MissingExtraError

SECONDS = 20.0
"""How long one look for a job may take."""


class JobFailedError(Exception):
    """A job ended without being done. It never leaves this package.

    Attributes:
      state: Dataflow's name of the state, such as JOB_STATE_FAILED.
      text: all error messages of the job, which may have values.
    """

    def __init__(self, state: str, text: str) -> None:
        super().__init__(state)
        self.state, self.text = state, text


class WatchLostError(Exception):
    """The service stopped answering while a job ran, which goes on."""


class Service:
    """Jobs of one project and region."""

    def __init__(self, options: Any) -> None:
        """Makes the client. Raises MissingExtraError if a package is missing."""
        client = client_module(no_auth=options.view_as(GoogleCloudOptions).no_auth)
        self._options, self._client = options, client.DataflowApplicationClient(options)

    def active(self, mark: str) -> dict[str, Any]:
        """Returns the active jobs whose names end in a run directory's mark, by name."""
        from google.cloud import dataflow

        cloud = self._options.view_as(GoogleCloudOptions)
        request = dataflow.ListJobsRequest(
            project_id=cloud.project, location=cloud.region, filter=dataflow.ListJobsRequest.Filter.ACTIVE
        )
        found = self._client._jobs_client.list_jobs(request, timeout=SECONDS, retry=None)
        return {job.name: job for job in found if job.name.endswith(f"-{mark}")}

    def find_bucket(self, place: str) -> None:
        """Asks for the bucket of a gs:// URL as Beam does when it stages files, which it would try for ten minutes."""
        self._client._storage_client.get_bucket(place.split("/")[2], timeout=SECONDS, retry=None)

    def wait(self, job: Any) -> None:
        """Waits for the end of a job.

        Raises:
          JobFailedError: it failed or was cancelled.
          WatchLostError: the service stopped answering.
        """
        from apache_beam.runners.dataflow import dataflow_runner as beams

        runner = beams.DataflowRunner()
        runner.dataflow_client = self._client
        result = beams.DataflowPipelineResult(job, runner, self._options)
        try:
            with _silent_threads():
                state = result.wait_until_finish()
        except beams.DataflowRuntimeException:
            state = result.state
        except AssertionError:  # Beam's thread that polls has died
            raise WatchLostError from None
        if state != "DONE":
            raise JobFailedError(str(state), self._errors(job.id, getattr(runner, "last_error_msg", None) or ""))

    def _errors(self, job_id: str, last: str) -> str:
        """Returns all error messages of a job. Beam keeps one of them, and none of a job that had ended before."""
        texts, token = [], None
        try:
            while True:
                found, token = self._client.list_messages(
                    job_id, page_token=token, minimum_importance="JOB_MESSAGE_ERROR"
                )
                texts += [message.message_text for message in found]
                if not token:
                    break
        except Exception:  # what is there is enough for a message
            texts.append(last)
        return "\n".join(texts)


def client_module(*, no_auth: bool) -> Any:
    """Returns Beam's module with the client of Dataflow. Raises MissingExtraError if a package is missing."""
    try:
        from apache_beam.runners.dataflow.internal import apiclient

        if not no_auth:  # without it Beam would ask without credentials, and say nothing of it
            importlib.import_module("google_auth_httplib2")
    except ImportError as error:
        raise MissingExtraError(
            f"--runner=DataflowRunner: needs the package {error.name!r}; install pe_beam[gcp]"
        ) from None
    return apiclient


@contextlib.contextmanager
def _silent_threads() -> Iterator[None]:
    """Keeps Beam's polling thread from printing a trace when the service stops answering."""
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        threading.excepthook = hook
