"""Google Secret Manager, by google-cloud-secret-manager over HTTPS. Credentials are the application default ones."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field, field_validator

from pe_beam.contracts.options import Options
from pe_beam.custody.asking import ANSWER, ServiceCustody, Trouble, checked_endpoint
from pe_beam.errors import MissingExtraError, SecretError

_BOUNDS: dict[str, Any] = {"timeout": ANSWER, "retry": None}
_LABEL = "pe-beam-run"


class GoogleOptions(Options):
    """The keys of `privacy.secret` for Google Secret Manager."""

    project: str = Field(pattern=r"^[a-z0-9][a-z0-9.:-]{1,98}[a-z0-9]$", description="id or number of the project")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,199}$",
        description="of the secret; null: pe-beam- and a random mark of the run directory",
    )
    location: str | None = Field(
        None,
        pattern=r"^[a-z]+-[a-z]+[0-9]+$",
        description="where a regional secret is kept, such as europe-west3; null: a global one, replicated by Google",
    )
    endpoint: str | None = Field(None, description="another address of the service, https://HOST; null: Google's own")

    _endpoint = field_validator("endpoint")(checked_endpoint)


class GoogleSecretManager(ServiceCustody):
    """Keeps the secret in Google Secret Manager. Deleting it there destroys all versions at once.

    A secret with a delay of destruction is refused. Versions have numbers; one is pinned, "latest" is never read.
    """

    Options = GoogleOptions

    def __init__(self, options: BaseModel, mark: str) -> None:
        """See Custody."""
        super().__init__(options, mark)
        try:
            from google.cloud import secretmanager  # noqa: F401
        except ImportError:
            raise MissingExtraError(
                "privacy.secret.custody: google-secret-manager needs the package google-cloud-secret-manager; install "
                "pe_beam[gcp]"
            ) from None

    def create(self, secret: bytes) -> str:
        """See Custody. A secret without a version is what a killed driver has left: it gets one."""
        self.asked("creating the secret", self._make)
        self.check()
        added = {"parent": self._path, "payload": {"data": bytes(secret), "data_crc32c": _crc32c(secret)}}
        version = self.asked("adding its version", lambda: self._client.add_secret_version(request=added, **_BOUNDS))
        return str(version.name).rpartition("/")[2]

    def _make(self) -> None:
        """Makes a secret without versions. One that is there stays; its mark is looked at afterwards."""
        from google.api_core.exceptions import Conflict

        own: dict[str, Any] = {"labels": {_LABEL: self.mark}}
        if self.options.location is None:
            own["replication"] = {"automatic": {}}
        wanted = {"parent": self._parent, "secret_id": self.name, "secret": own}
        with contextlib.suppress(Conflict):
            self._client.create_secret(request=wanted, **_BOUNDS)

    def read(self, version: str) -> bytes | None:
        """See Custody. A version that is destroyed or disabled is not there."""
        found = self.asked("reading the secret", lambda: self._payload(version))
        if found is None:
            return None
        data = bytes(found.data)
        if found.data_crc32c and found.data_crc32c != _crc32c(data):
            raise SecretError(f"{self.place()}: it was damaged on its way")
        return data

    def _payload(self, version: str) -> Any:
        from google.api_core.exceptions import BadRequest, NotFound

        asked = {"name": f"{self._path}/versions/{version}"}
        try:
            return self._client.access_secret_version(request=asked, **_BOUNDS).payload
        except NotFound:
            return None
        except BadRequest as error:
            if "FAILED_PRECONDITION" in getattr(error.response, "text", ""):
                return None
            raise

    def check(self) -> None:
        """See Custody."""
        found = self._found()
        if found is not None:
            self.bound(found.labels.get(_LABEL))
            if found.version_destroy_ttl:
                raise SecretError(
                    f"{self.place()}: its versions are destroyed with a delay (version_destroy_ttl), and a secret that "
                    "is destroyed must be gone; a secret without that delay is wanted"
                )

    def destroy(self) -> None:
        """See Custody."""
        found = self._found()
        if found is None:
            return
        self.bound(found.labels.get(_LABEL))
        self.asked("destroying the secret", lambda: self._delete(found.etag))
        self.wait_until_gone(lambda: self._there() is None)

    def _delete(self, etag: str) -> None:
        from google.api_core.exceptions import NotFound

        with contextlib.suppress(NotFound):
            self._client.delete_secret(request={"name": self._path, "etag": etag}, **_BOUNDS)

    def place(self) -> str:
        """See Custody."""
        return f"privacy.secret: {self.name} in Google Secret Manager, project {self.options.project}"

    def trouble(self, error: Exception) -> Trouble | None:
        """See ServiceCustody."""
        import requests
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError, TransportError

        if isinstance(error, requests.exceptions.RequestException | TransportError | RetryError | ConnectionError):
            return Trouble(
                "the service does not answer; check the network, privacy.secret.location and privacy.secret.endpoint",
                passing=True,
                setup=True,
            )
        if isinstance(error, GoogleAuthError):
            return Trouble(
                "there are no valid credentials; set GOOGLE_APPLICATION_CREDENTIALS or run gcloud auth "
                "application-default login",
                setup=True,
            )
        return _answered(error.code) if isinstance(error, GoogleAPICallError) else None

    def _found(self) -> Any:
        return self.asked("reading what is said of the secret", self._there)

    def _there(self) -> Any:
        from google.api_core.exceptions import NotFound

        try:
            return self._client.get_secret(request={"name": self._path}, **_BOUNDS)
        except NotFound:
            return None

    @property
    def _parent(self) -> str:
        location = self.options.location
        return f"projects/{self.options.project}" + ("" if location is None else f"/locations/{location}")

    @property
    def _path(self) -> str:
        return f"{self._parent}/secrets/{self.name}"

    @cached_property
    def _client(self) -> Any:
        """Made at the first request: credentials may be missing, and that has to be said as other faults are."""
        from google.cloud import secretmanager

        location = self.options.location
        address = self.options.endpoint
        if address is None and location is not None:
            address = f"https://secretmanager.{location}.rep.googleapis.com"
        told = {} if address is None else {"api_endpoint": address}
        return secretmanager.SecretManagerServiceClient(transport="rest", client_options=told)


def _crc32c(data: bytes) -> int:
    import google_crc32c

    found: int = google_crc32c.value(bytes(data))
    return found


def _answered(status: int | None) -> Trouble:
    if status in (401, 403):
        return Trouble(
            "access is denied; whom the credentials name has to create, read and delete secrets whose names begin so "
            "(secretmanager.secrets.create, get, delete, secretmanager.versions.add, access), a worker to read "
            "them, and the Secret Manager API has to be on in the project",
            setup=True,
        )
    if status == 404:
        return Trouble("there is no such project or location; correct privacy.secret.project or location", setup=True)
    passing = status is None or status in (408, 409, 429) or status >= 500
    return Trouble(f"the service answered with status {status}", passing=passing, setup=not passing)
