"""Drivers in processes of their own, which are killed between two steps or race each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pe_beam.custody import keeping
from pe_beam.custody.asking import ServiceCustody
from pe_beam.custody.driver_file import DriverFile
from pe_beam.privacy import secret
from pe_beam.storage import open_store
from pe_beam.storage.local import LocalStore

KILLED = -signal.SIGKILL
_FORK = multiprocessing.get_context("fork")


def life(run: Path, kind: str | None, options: dict[str, Any]) -> None:
    """What a driver does with a secret, from its beginning to its end. It goes on where a killed one has stopped."""
    store, used, complete = open_store(run), run.parent / "used", run.parent / "complete"
    if not complete.exists():
        if kind is None:
            keeping.demand_place(store, None, {})
            keeping.demand_room(store)
            secret.create_secret(store)
        else:
            keeping.ensure_secret(store, kind, options)
        held = keeping.read_secret(store)
        keeping.bind_data(store, held, "fingerprint")
        with used.open("ab") as file:  # noise is drawn
            file.write(held)
        complete.touch()
    keeping.forget_secret(store)


def killed(do: Callable[[], None], *, before: int) -> int:
    """Runs a function in a fork. Returns its status: 0 done, 1 raised, KILLED before its step of that number."""

    def body() -> None:
        with pytest.MonkeyPatch.context() as patch:
            _count_steps(patch, before)
            do()

    process = _FORK.Process(target=body)
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


def _count_steps(patch: pytest.MonkeyPatch, last: int) -> None:
    """Kills the process before its step of this number. A step is a request, or a change in the run directory."""
    left = [last]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepped(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            step()
            return real(*args, **kwargs)

        return wrapped

    asked = ServiceCustody.asked

    def ask_stepped(self: ServiceCustody, doing: str, ask: Callable[[], Any]) -> Any:
        return asked(self, doing, stepped(ask))

    patch.setattr(ServiceCustody, "asked", ask_stepped)
    patch.setattr(DriverFile, "_asked", stepped(DriverFile._asked))
    for name in ("commit", "update", "delete"):
        patch.setattr(LocalStore, name, stepped(getattr(LocalStore, name)))


def at_once(drivers: int, do: Callable[[], bytes]) -> list[bytes]:
    """What a function returns in forks that start it together; of one that raises, the message."""
    start, answers = _FORK.Barrier(drivers), _FORK.SimpleQueue()

    def body() -> None:
        start.wait(300)
        try:
            answers.put(bytes(do()))
        except Exception as error:
            answers.put(str(error).encode())

    processes = [_FORK.Process(target=body) for _ in range(drivers)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join(300)
    return found
