"""Keeps one dispatcher per process and service: all chunks and threads share its connections, pace and account."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable

from pe_beam.contracts.service import Endpoint, Service
from pe_beam.contracts.store import Folder
from pe_beam.services.account import Account
from pe_beam.services.dispatch import Connection, Dispatcher
from pe_beam.services.pace import Pace

_DISPATCHERS: dict[tuple[object, ...], Dispatcher] = {}
_LOCK = threading.Lock()


def shared_dispatcher(
    service: Service,
    folder: Folder | None,
    *,
    key: str,
    about: str,
    connect: Callable[[Endpoint, str], Connection],
    private: bool = False,
) -> Dispatcher:
    """Returns the dispatcher of a service. It makes the dispatcher at the first call.

    Args:
      service: settings of the service.
      folder: the folder of the run's services; None: nothing is shared with other processes.
      key: recipe key of the service; its last word is the name of the service's own folder.
      about: further text that identifies the dispatcher: settings that its connections depend on.
      connect: endpoint and its recipe key -> Connection.
      private: True if the calls contain private records. No message may then tell the number of calls.
    """
    own = None if folder is None else folder / key.rpartition(".")[2]
    identity = None if own is None else _identity(own)
    # Another key gives another dispatcher. The keys are kept only in memory, and there only as a digest.
    keys = "".join(endpoint.key(f"{key}.endpoints.{place}") + "\0" for place, endpoint in enumerate(service.endpoints))
    name = (os.getpid(), identity, service.model_dump_json(), key, about, hashlib.sha256(keys.encode()).digest())
    with _LOCK:
        if name not in _DISPATCHERS:
            paces = (
                _pace(own, "requests", service.requests_per_minute),
                _pace(own, "tokens", service.tokens_per_minute),
            )
            _DISPATCHERS[name] = Dispatcher(
                service, Account(own, service, key=key, private=private), paces, connect, key=key
            )
        return _DISPATCHERS[name]


def _identity(folder: Folder) -> tuple[str, bytes]:
    """Returns what identifies a folder. A folder of the same name that was deleted and made again is another one."""
    folder.commit("identity", secrets.token_hex(16).encode())
    return str(folder), folder.read("identity")


def _pace(folder: Folder | None, name: str, per_minute: float | None) -> Pace | None:
    return None if per_minute is None else Pace(folder, per_minute, name=name)
