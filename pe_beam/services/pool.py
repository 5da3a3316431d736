"""Keeps one dispatcher per process and service: all chunks and threads share its connections, pace and account."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator

from pe_beam.contracts.service import Endpoint, Service
from pe_beam.contracts.store import Folder, Store
from pe_beam.services.account import Account
from pe_beam.services.blocks import BlockAccount
from pe_beam.services.connection import Connection
from pe_beam.services.dispatch import Dispatcher
from pe_beam.services.pace import Pace, SharedPace
from pe_beam.services.shares import Shares

_DISPATCHERS: dict[tuple[object, ...], tuple[Folder | None, Dispatcher]] = {}
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
            account = (
                BlockAccount(own, service, key=key, private=private)
                if own is not None and own.store.remote
                else Account(own, service, key=key, private=private)
            )
            _DISPATCHERS[name] = own, Dispatcher(service, account, _paces(own, service), connect, key=key)
        return _DISPATCHERS[name][1]


@contextlib.contextmanager
def closed_after(store: Store) -> Iterator[None]:
    """Closes this process's dispatchers of a run when the body ends, which is when the run does.

    A stream and a notebook make run after run in one process: their threads, connections and leases would add up.
    """
    try:
        yield
    finally:
        close_dispatchers(store)


def close_dispatchers(store: Store | None = None) -> None:
    """Closes this process's dispatchers of a run; None: of all runs, and those of no run."""
    with _LOCK:
        own = {name: kept for name, kept in _DISPATCHERS.items() if name[0] == os.getpid()}
        ended = [n for n, (folder, _) in own.items() if store is None or (folder and folder.store.uri == store.uri)]
        found = [_DISPATCHERS.pop(name)[1] for name in ended]
    for dispatcher in found:
        dispatcher.close()


def _identity(folder: Folder) -> tuple[str, bytes]:
    """Returns what identifies a folder. A folder of the same name that was deleted and made again is another one."""
    found = folder.store.find_committed(folder.name("identity"))
    if found is None:
        folder.commit("identity", secrets.token_hex(16).encode())
        found = folder.read("identity")
    return str(folder), found


def _paces(folder: Folder | None, service: Service) -> tuple[Pace | None, Pace | None]:
    """Returns the paces of requests and tokens; None: no limit."""
    requests, tokens = service.requests_per_minute, service.tokens_per_minute
    if folder is None or not folder.store.remote:
        return (
            None if requests is None else Pace(folder, requests, name="requests"),
            None if tokens is None else Pace(folder, tokens, name="tokens"),
        )
    if requests is None and tokens is None:
        return None, None
    shares = Shares(folder, None if requests is None else max(int(requests // SharedPace.LEAST), 1))
    return (
        None if requests is None else SharedPace(shares, requests),
        None if tokens is None else SharedPace(shares, tokens),
    )
