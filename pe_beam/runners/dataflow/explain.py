"""Says in one sentence why the Dataflow service refused a request, or why a job failed. No sentence holds a value."""

from __future__ import annotations

import re

from pe_beam.errors import InputError, PeBeamError


class DataflowError(PeBeamError):
    """The Dataflow service does not answer, or a job could not go on as it is. Exit status 1."""


_CAUSES = [
    (
        r"Failed to retrieve secret bytes",
        "workers cannot read the key that --gbek names; their service account needs roles/secretmanager.secretAccessor "
        "on it",
    ),
    (
        r"No module named '?pe_beam",
        "workers have no pe_beam; the image of --sdk_container_image has to have the same version as the driver",
    ),
    (
        r"No module named",
        "workers lack a package that the recipe needs; the image of --sdk_container_image has to have its extra",
    ),
    (
        r"environment and pipeline runtime environment are not compatible|SDK version mismatch"
        r"|can't get attribute|Can't get attribute",
        "workers and driver do not fit together: both need the same Python, Beam and pe_beam",
    ),
    (
        r"ImagePullBackOff|ErrImagePull|[Ff]ailed to pull image|manifest unknown|failed to start container",
        "workers cannot start the image of --sdk_container_image; see its name, and that their service account may "
        "read it (roles/artifactregistry.reader)",
    ),
    (
        r"ZONE_RESOURCE_POOL_EXHAUSTED|RESOURCE_POOL_EXHAUSTED|does not have enough resources|STOCKOUT",
        "the region has no free machines of this kind; run again later, or name another --region or --machine_type",
    ),
    (
        r"[Mm]achine ?[Tt]ype.{0,200}(does not exist|not found|not supported|[Ii]nvalid)|[Ii]nvalid.{0,80}machineType",
        "the region has no machines of --machine_type (or of execution.stages) under this name",
    ),
    (
        r"([Nn]etwork|[Ss]ubnetwork) \S+ is not accessible",
        "workers have no network: name one that the project has, --network or --subnetwork; docs/cloud.md's Terraform "
        "takes a subnetwork",
    ),
    (
        r"QUOTA_EXCEEDED|[Qq]uota '?\S*'? ?(?:was )?exceeded|exceeded.{0,40}quota|quota limit|RESOURCE_EXHAUSTED",
        "a quota of the project is used up; ask for more in --region, or lower --max_num_workers",
    ),
    (
        r"lost contact with the service|[Oo]ut of memory|SDK harness.{0,60}disconnected|worker.{0,20}OOM",
        "workers were lost, most often for lack of memory; raise --machine_type or execution.stages.*.min_ram, and run "
        "again: it resumes",
    ),
    (
        r"does not have storage\.|403.{0,200}storage|AccessDeniedException|Permission.{0,40}denied",
        "the workers' service account (--service_account_email) lacks a right; docs/dataflow.md lists its roles",
    ),
]


def explain_job(text: str) -> str | None:
    """Returns the known cause of a job's failure as the end of a sentence, or None."""
    return next((said for pattern, said in _CAUSES if re.search(pattern, text)), None)


def explain_request(error: Exception, where: str) -> PeBeamError | None:
    """Returns the error for a request that failed, or None if it is of another kind.

    Args:
      error: what the client library, or Beam, raised.
      where: project and region, for the message.
    """
    import requests
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, requests.exceptions.RequestException | TransportError | ConnectionError):
        return _silent(where)
    if isinstance(error, GoogleAuthError | exceptions.Unauthenticated):
        return InputError(
            "--runner=DataflowRunner: there are no valid credentials; set GOOGLE_APPLICATION_CREDENTIALS or run gcloud "
            "auth application-default login"
        )
    if not isinstance(error, exceptions.GoogleAPICallError):
        return _silent(where) if isinstance(error, exceptions.RetryError) else None
    return _answered(error.code, str(error), where)


def explain_bucket(error: Exception, place: str, where: str) -> PeBeamError | None:
    """Returns the error for a bucket that does not answer, or None if it is of another kind; see `explain_request`."""
    from google.api_core.exceptions import GoogleAPICallError

    if isinstance(error, GoogleAPICallError) and error.code in (400, 401, 403, 404):
        return InputError(
            f"--temp_location, --staging_location: {place}: files of jobs cannot be written there; the bucket has to "
            "exist, and whom the credentials name needs roles/storage.objectUser and roles/storage.legacyBucketReader"
        )
    return explain_request(error, where)


def _answered(status: int | None, text: str, where: str) -> PeBeamError:
    if status == 403 and re.search(r"SERVICE_DISABLED|has not been used in project|it is disabled", text):
        return InputError(f"--project: the Dataflow API is not enabled there ({where}); enable dataflow.googleapis.com")
    if status in (401, 403):
        return InputError(
            f"--project: access to Dataflow is denied ({where}); whom the credentials name needs "
            "roles/dataflow.developer, and roles/iam.serviceAccountUser on the workers' account"
        )
    if status == 404:
        return InputError(f"--project, --region: Dataflow knows no such project or region ({where})")
    if status == 429:
        return DataflowError(f"Dataflow refuses more requests or jobs for now ({where}): a quota is used up; run again")
    if status is None or status >= 500:
        return _silent(where)
    return DataflowError(f"Dataflow does not take the job or its flags (status {status}; {where})")


def _silent(where: str) -> DataflowError:
    return DataflowError(f"Dataflow does not answer ({where}); run again: a job that runs is found again")
