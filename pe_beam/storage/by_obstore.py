"""What the stores of S3 and Azure share: the library obstore, whose retries are off, for ours look at marks first."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, BinaryIO
from urllib.error import HTTPError

from pe_beam.errors import MissingExtraError, UnreachableError
from pe_beam.storage.bucket import ANSWER, CONNECT, MARKS, NO_BUCKET, Bucket, Head, Trouble, answered

_PIECE = 1 << 20  # bytes of a large object that are taken at a time, at least
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|ContainerBeingDeleted")
_STATUS = re.compile(r"status code: (\d{3})")
_SAID = {
    r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation|redirect without LOCATION": (
        "the bucket lies in another region; set AWS_REGION to its own"
    ),
    r"<Code>(ExpiredToken|TokenRefreshRequired|ExpiredAuthenticationToken)": (
        "the credentials have expired; give new ones and run again, it resumes"
    ),
}
"""What an answer has -> what is said of it."""


def options(*, large: bool, http: bool) -> dict[str, Any]:
    """How long the library waits. A large body is sent for as long as it takes: its answer begins at its end only."""
    waits = {"timeout": timedelta(hours=2)} if large else {"read_timeout": timedelta(seconds=ANSWER)}
    return {
        "client_options": {
            "connect_timeout": timedelta(seconds=CONNECT),
            "timeout": timedelta(hours=2),
            "allow_http": http,
            **waits,
        },
        "retry_config": {
            "max_retries": 0,
            "retry_timeout": timedelta(seconds=ANSWER),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
        },
    }


def clients(kind: Any, bucket: str, *, endpoint: str, wanted: str) -> tuple[Any, Any]:
    """A client for what answers soon, and one for large bodies.

    Raises:
      UnreachableError: the library does not take what the environment says.
    """
    from obstore.exceptions import BaseError

    given = os.environ.get(endpoint, "").lower()
    if given and not re.match(r"https?://[^/]", given):  # the library would panic at the first request
        raise UnreachableError(f"--run-dir: {endpoint} is no URL; http://HOST:PORT or https://HOST is wanted")
    http = given.startswith("http://")
    try:
        return kind(bucket, **options(large=False, http=http)), kind(bucket, **options(large=True, http=http))
    except (BaseError, ValueError):
        # Not `from error`: it may say what a variable holds.
        raise UnreachableError(f"--run-dir: the environment does not say how to reach {bucket}; {wanted}") from None


def demand_obstore(scheme: str, extra: str) -> None:
    """Raises: MissingExtraError if the library is not installed."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"--run-dir: {scheme}:// needs the package obstore; install pe_beam[{extra}]") from None


class ObstoreBucket(Bucket):
    """A bucket by obstore."""

    batch = 250  # of Azure at most 256
    denied: str
    """What to do where access is denied."""
    unreachable: str
    """What to look at where nothing answers."""

    def __init__(self, store: Any, large: Any) -> None:
        """Takes a client for what answers soon, and one for large bodies."""
        self._store, self._large = store, large
        self._is_there = False

    def head(self, key: str) -> Head | None:
        """As `Bucket.head`."""
        import obstore

        try:
            return _head(obstore.get(self._store, key, options={"head": True}))
        except FileNotFoundError as error:
            return self._absent(error)

    def latest(self, key: str) -> tuple[Head, bytes] | None:
        """As `Bucket.latest`."""
        import obstore

        try:
            found = obstore.get(self._store, key)
            return _head(found), bytes(found.bytes())
        except FileNotFoundError as error:
            return self._absent(error)

    def get(self, key: str, start: int, length: int | None) -> bytes | None:
        """As `Bucket.get`."""
        import obstore
        from obstore.exceptions import GenericError

        if length == 0:
            return None if self.head(key) is None else b""
        span: Any = {"offset": start} if length is None else (start, start + length)
        try:
            whole = start == 0 and length is None
            return bytes(obstore.get(self._store, key, options={} if whole else {"range": span}).bytes())
        except FileNotFoundError as error:
            return self._absent(error)
        except GenericError as error:
            if _status(error) == 416 or "Wanted range starting at" in str(error):
                return b""
            raise

    def download(self, key: str, write: Callable[[bytes], object]) -> bool:
        """As `Bucket.download`."""
        import obstore

        try:
            found = obstore.get(self._store, key)
        except FileNotFoundError as error:
            return self._absent(error) is not None
        got = 0
        for piece in found.stream(_PIECE):
            write(piece)
            got += len(piece)
        if got != found.meta["size"]:
            raise ConnectionError
        return True

    def put(self, key: str, body: bytes | BinaryIO, expected: str | None, marks: str) -> str | None:
        """As `Bucket.put`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "overwrite" if expected is None else {"e_tag": expected} if expected else "create"
        store = self._store if isinstance(body, bytes) else self._large
        told: Any = {MARKS: marks}
        try:
            done = obstore.put(store, key, body, mode=mode, attributes=told)
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError as error:
            self._absent(error)
            if expected:
                return None  # what it was to replace is gone
            raise
        return str(done["e_tag"])

    def keys(self, prefix: str) -> list[str]:
        """As `Bucket.keys`."""
        import obstore

        return [found["path"] for chunk in obstore.list(self._store, prefix or None) for found in chunk]

    def listed(self, prefix: str) -> list[tuple[str, int]]:
        """As `Bucket.listed`."""
        import obstore

        return [
            (found["path"], found["size"]) for chunk in obstore.list(self._store, prefix or None) for found in chunk
        ]

    def delete(self, keys: Sequence[str]) -> None:
        """As `Bucket.delete`."""
        import obstore

        try:
            obstore.delete(self._store, keys[0] if len(keys) == 1 else list(keys))
        except FileNotFoundError as error:
            self._absent(error)

    def trouble(self, error: Exception) -> Trouble | None:
        """As `Bucket.trouble`."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        if not isinstance(error, BaseError | OSError):
            return None
        text, status = str(error), _status(error)
        if _NO_BUCKET.search(text) or isinstance(error, FileNotFoundError) or status == 404:
            return Trouble(NO_BUCKET, setup=True)
        said = next((said for pattern, said in _SAID.items() if re.search(pattern, text)), None)
        if said is not None:
            return Trouble(said, setup=True)
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in (401, 403):
            return Trouble(f"access is denied; {self.denied}", setup=True)
        if status is None:
            return Trouble(f"the service does not answer; {self.unreachable}", passing=True, setup=True)
        return answered(status, f"{self.unreachable}{self._also(status)}")

    def _also(self, status: int) -> str:
        """What else to look at: Amazon's answer to an ended session is status 400, and to a HEAD it says no more."""
        ended = status == 400 and "AWS_SESSION_TOKEN" in os.environ
        return ", and that AWS_SESSION_TOKEN has not expired" if ended else ""

    def _absent(self, error: Exception) -> Any:
        """None: no object. The first time, that the bucket is there is made sure of: some answers do not tell."""
        if _NO_BUCKET.search(str(error)):
            raise error
        if not self._is_there:
            import obstore

            next(iter(obstore.list(self._store, "private/probe", chunk_size=1)), None)
            self._is_there = True
        return None

    def probed(self, key: str) -> tuple[str | None, dict[str, str]]:
        """Writes and deletes an object: its version, if it has one, and the headers of the answer to its deletion.

        obstore keeps these headers to itself, but signs a URL. The name is random, so the write may replace: one whose
        answer was lost is done again.
        """
        import obstore

        written = obstore.put(self._store, key, b"")
        url = obstore.sign(self._store, "DELETE", key, timedelta(minutes=5))
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=ANSWER) as answer:
            return written["version"], {name.lower(): text for name, text in answer.headers.items()}


def _head(found: Any) -> Head:
    meta, marks = found.meta, found.attributes.get(MARKS, "")
    return Head(str(meta["e_tag"]), marks, meta["size"], meta["last_modified"].timestamp())


def _status(error: Exception) -> int | None:
    if isinstance(error, HTTPError):
        return error.code
    found = _STATUS.search(str(error))
    return int(found.group(1)) if found else None
