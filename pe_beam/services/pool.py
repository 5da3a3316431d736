"""One dispatcher a process for a service of a run: all chunks and threads share its connections, pace and account."""

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
    """The dispatcher of a service, made when it is first asked for.

    Args:
      service: its settings.
      folder: of the run's services; None: nothing is shared with other processes.
      key: recipe key of the service; its last word names its own folder.
      about: what else shapes its lines.
      connect: endpoint and its recipe key -> Connection.
      private: True where it is asked about private records, whose number no message may tell.
    """
    own = None if folder is None else folder / key.rpartition(".")[2]
    identity = None if own is None else _identity(own)
    # A key that has changed since is another dispatcher; in memory alone, and there as a digest.
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
    """A folder that is made anew is another account: a run directory of that name may have been deleted in between."""
    folder.commit("identity", secrets.token_hex(16).encode())
    return str(folder), folder.read("identity")


def _pace(folder: Folder | None, name: str, per_minute: float | None) -> Pace | None:
    return None if per_minute is None else Pace(folder, per_minute, name=name)
