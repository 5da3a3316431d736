"""Google Cloud Storage: `gs://bucket/prefix`, by google-cloud-storage. A version is an object's generation.

Credentials are Google's application default ones; STORAGE_EMULATOR_HOST names an emulator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from pe_beam.errors import MissingExtraError
from pe_beam.storage.bucket import ANSWER, CONNECT, MARKS, NO_BUCKET, Bucket, Head, Trouble, answered
from pe_beam.storage.objects import ObjectStore

_BOUNDS: dict[str, Any] = {"timeout": (CONNECT, ANSWER), "retry": None}
_LOOK_AT = "check the network, and STORAGE_EMULATOR_HOST if it is set"
_CONNECTIONS = 48
_KEPT = {
    "versioning": "versioning is on",
    "soft delete": "soft delete is on",
    "retention": "a retention policy is set",
    "hold": "new objects are held",
    "lock": "objects can be locked",
}


class GsStore(ObjectStore):
    """Files below a prefix of a bucket of Google Cloud Storage."""

    scheme = "gs"
    environment = ("GOOGLE_", "STORAGE_", "GCLOUD_", "CLOUDSDK_")

    @classmethod
    def connect(cls, bucket: str) -> Bucket:
        """A client of a bucket."""
        try:
            from google.cloud import storage
        except ImportError:
            raise MissingExtraError(
                "--run-dir: gs:// needs the package google-cloud-storage; install pe_beam[gcp]"
            ) from None
        return _GsBucket(storage.Client, bucket)


class _GsBucket(Bucket):
    # Not `client.batch`: the service counts each deletion in it too, and no emulator takes what the library sends.
    batch = 1

    def __init__(self, client: Any, name: str) -> None:
        self._make, self._name = client, name
        self._made: Any = None
        self._is_there = False

    @property
    def _bucket(self) -> Any:
        """Made at the first request: credentials may be missing, and that has to be said as other faults are."""
        if self._made is None:
            client = self._make()
            _keep_connections(client)
            self._made = client.bucket(self._name)
        return self._made

    def head(self, key: str) -> Head | None:
        blob = self._bucket.get_blob(key, **_BOUNDS)
        return _head(blob) if blob is not None else self._absent()

    def latest(self, key: str) -> tuple[Head, bytes] | None:
        from google.api_core.exceptions import NotFound

        while True:
            blob = self._bucket.get_blob(key, **_BOUNDS)
            if blob is None:
                return self._absent()
            try:
                return _head(blob), _downloaded(self._bucket.blob(key, generation=blob.generation))
            except NotFound:
                continue  # replaced in between

    def get(self, key: str, start: int, length: int | None) -> bytes | None:
        from google.api_core.exceptions import NotFound, RequestRangeNotSatisfiable

        if length == 0:
            return None if self.head(key) is None else b""
        end = None if length is None else start + length - 1
        try:
            return _downloaded(self._bucket.blob(key), start=start or None, end=end)
        except RequestRangeNotSatisfiable:
            return b""
        except NotFound:
            return self._absent()

    def download(self, key: str, write: Callable[[bytes], object]) -> bool:
        from google.api_core.exceptions import NotFound
        from google.cloud.storage.exceptions import DataCorruption

        class Sink:
            def write(self, piece: bytes) -> int:
                write(piece)
                return len(piece)

        try:
            self._bucket.blob(key).download_to_file(Sink(), raw_download=True, **_BOUNDS)
        except NotFound:
            return self._absent() is not None
        except DataCorruption:
            raise ConnectionError from None
        return True

    def put(self, key: str, body: bytes | BinaryIO, expected: str | None, marks: str) -> str | None:
        from google.api_core.exceptions import PreconditionFailed

        if expected and not expected.isdigit():
            return None
        blob = self._bucket.blob(key)
        blob.metadata = {MARKS: marks}
        condition = {} if expected is None else {"if_generation_match": int(expected or 0)}
        try:
            if isinstance(body, bytes):
                blob.upload_from_string(body, checksum="crc32c", **condition, **_BOUNDS)
            else:
                blob.upload_from_file(body, checksum="crc32c", **condition, **_BOUNDS)
        except PreconditionFailed:
            return None
        return str(blob.generation)

    def keys(self, prefix: str) -> list[str]:
        listed = self._bucket.list_blobs(prefix=prefix, fields="items(name),nextPageToken", **_BOUNDS)
        return [blob.name for blob in listed]

    def listed(self, prefix: str) -> list[tuple[str, int]]:
        found = self._bucket.list_blobs(
            prefix=prefix, fields="items(name,size),nextPageToken", page_size=5000, **_BOUNDS
        )
        return [(blob.name, int(blob.size or 0)) for blob in found]

    def delete(self, keys: Sequence[str]) -> None:
        from google.api_core.exceptions import NotFound

        for key in keys:
            try:
                self._bucket.blob(key).delete(**_BOUNDS)
            except NotFound:
                self._absent()

    def trouble(self, error: Exception) -> Trouble | None:
        import requests
        import urllib3
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError, TransportError

        network = requests.exceptions.RequestException | urllib3.exceptions.HTTPError | TransportError | ConnectionError
        if isinstance(error, network):
            return Trouble(f"the service does not answer; {_LOOK_AT}", passing=True, setup=True)
        if isinstance(error, GoogleAuthError):
            return Trouble(
                "there are no valid credentials; set GOOGLE_APPLICATION_CREDENTIALS or run gcloud auth "
                "application-default login",
                setup=True,
            )
        if not isinstance(error, GoogleAPICallError):
            return None
        if "requester pays" in str(error):
            return Trouble("its requesters pay; name the project that does, GOOGLE_CLOUD_QUOTA_PROJECT", setup=True)
        return _answered(error.code)

    def keeps_deleted(self, probe: str) -> str | None:
        bucket = self._bucket.client.get_bucket(self._name, **_BOUNDS)
        said = bucket._properties
        found = {
            "versioning": bucket.versioning_enabled,
            "soft delete": int(said.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)),
            "retention": bucket.retention_period,
            "hold": bucket.default_event_based_hold,
            "lock": said.get("objectRetention"),
        }
        return next((_KEPT[name] for name, is_on in found.items() if is_on), None)

    def _absent(self) -> Any:
        """None: no object. The first time, that the bucket is there is made sure of, for both are status 404."""
        if not self._is_there:
            next(iter(self._bucket.list_blobs(max_results=1, fields="items(name)", **_BOUNDS)), None)
            self._is_there = True
        return None


def _keep_connections(client: Any) -> None:
    """Keeps a connection for each thread that may ask, where the library keeps ten."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        client._http.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))


def _downloaded(blob: Any, **span: Any) -> bytes:
    found: bytes = blob.download_as_bytes(raw_download=True, **span, **_BOUNDS)
    return found


def _head(blob: Any) -> Head:
    marks = (blob.metadata or {}).get(MARKS, "")
    return Head(str(blob.generation), marks, int(blob.size or 0), blob.updated.timestamp())


def _answered(status: int | None) -> Trouble:
    if status == 404:
        return Trouble(NO_BUCKET, setup=True)
    if status in (401, 403):
        return Trouble(
            "access is denied; whom the credentials name has to read, write, list and delete objects there "
            "(roles/storage.objectUser)",
            setup=True,
        )
    if status is None:
        return Trouble(f"the service does not answer; {_LOOK_AT}", passing=True, setup=True)
    return answered(status, _LOOK_AT)
