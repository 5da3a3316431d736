"""What custodies at a service share: asking until it answers, and keeping quiet about what is said."""

from __future__ import annotations

import abc
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from pe_beam.contracts.custody import Custody
from pe_beam.errors import SecretError, ServiceError

CONNECT, ANSWER = 4.0, 8.0
"""Seconds to wait for a connection, and for an answer to begin."""
PATIENCE = 12.0
"""Seconds after which what fails is not tried again."""
GONE = 120.0
"""Seconds to wait until a service says that a secret is gone."""
T = TypeVar("T")


@dataclass(frozen=True)
class Trouble:
    """Why a service did not do what it was asked.

    Attributes:
      said: ends a sentence; it holds nothing of the request or the answer.
      passing: whether to try again.
      setup: whether address, rights or credentials are at fault.
    """

    said: str
    passing: bool = False
    setup: bool = False


class ServiceCustody(Custody):
    """A custody at a remote service. Requests of its library are bounded in time and not repeated by the library."""

    @abc.abstractmethod
    def trouble(self, error: Exception) -> Trouble | None:
        """Returns what an exception of the library means; None: it is no fault of the service."""

    def asked(self, doing: str, ask: Callable[[], T]) -> T:
        """Returns what a request brings. It may be asked again.

        Raises:
          SecretError: address, rights or credentials are at fault, or the service does not answer.
          ServiceError: the service fails again and again.
        """
        end, pause = time.monotonic() + PATIENCE, 0.2
        while True:
            try:
                with _unlogged():
                    return ask()
            except Exception as error:
                found = self.trouble(error)
                if found is None:
                    raise
                if not found.passing or time.monotonic() + pause > end:
                    kind = SecretError if found.setup else ServiceError
                    # Not `from error`: libraries put requests and answers into their exceptions.
                    raise kind(f"{self.place()}: {doing} failed: {found.said}") from None
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def wait_until_gone(self, is_gone: Callable[[], bool]) -> None:
        """Waits until the service says that a secret is gone. Raises SecretError if it does not."""
        end, pause = time.monotonic() + GONE, 0.1
        while not self.asked("making sure that the secret is gone", is_gone):
            if time.monotonic() + pause > end:
                raise SecretError(
                    f"{self.place()}: the secret is still there {GONE:.0f} s after it was destroyed; run again to look"
                )
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def bound(self, found: str | None) -> None:
        """Raises SecretError if a secret of this name carries another mark than that of this run directory."""
        if found != self.mark:
            raise SecretError(
                f"{self.place()}: a secret of this name is there that is not of this run directory; another "
                "privacy.secret.name is wanted, or none: then each run directory has its own"
            )


def checked_endpoint(url: str | None) -> str | None:
    """Returns the URL of a service. Raises ValueError if a secret could travel in the clear.

    >>> checked_endpoint("http://127.0.0.1:9090")
    'http://127.0.0.1:9090'
    """
    if url is None:
        return None
    parts = urlsplit(url)
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError("a URL of a host alone is wanted, such as https://HOST")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(parts.hostname)):
        raise ValueError("https:// is wanted (http:// on this machine alone)")
    return url.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class _Quiet:
    mutex = threading.Lock()
    askers = 0
    before = 0


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Silences all logs for the time of a request: at DEBUG, libraries log what they send and receive."""
    with _Quiet.mutex:
        if _Quiet.askers == 0:
            _Quiet.before = logging.root.manager.disable
            logging.disable(logging.CRITICAL)
        _Quiet.askers += 1
    try:
        yield
    finally:
        with _Quiet.mutex:
            _Quiet.askers -= 1
            if _Quiet.askers == 0:
                logging.disable(_Quiet.before)
