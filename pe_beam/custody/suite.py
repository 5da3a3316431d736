"""The contract of a custody as one check. `pe_beam.testing.check_custody` runs it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pe_beam.contracts.breach import hold
from pe_beam.contracts.custody import Custody
from pe_beam.errors import PeBeamError

_DRIVERS = 4


def check_custody(make: Callable[[str], Custody]) -> None:
    """Checks the contract of a custody with secrets of no use, which it destroys.

    Args:
      make: mark of a run directory (32 hexadecimal digits) -> its custody.

    Raises:
      ContractError: what was kept came back otherwise, another run directory's secret was taken or destroyed, or
        something is there after it was destroyed.
    """
    mark, useless = secrets.token_hex(16), secrets.token_bytes(32)
    keeper = make(mark)
    keeper.destroy()  # nothing is there, which is no fault
    keeper.rehearse()
    try:
        version = keeper.create(useless)
        hold(bool(version), "create: no version came back")
        hold(keeper.read(version) == useless, "read: other bytes than those that were kept")
        hold(make(mark).read(version) == useless, "read: another process would not find the secret")
        keeper.check()
        again = make(mark).create(secrets.token_bytes(32))
        hold(keeper.read(version) == useless, "create: a second call has changed the first one's version")
        hold(keeper.read(again) is not None, "create: it returned a version that is not there")
        if "name" in keeper.Options.model_fields:
            _refuses_another_mark(make(secrets.token_hex(16)), keeper, version, useless)
        with ThreadPoolExecutor(_DRIVERS) as pool:
            made = list(pool.map(lambda _: make(mark).create(secrets.token_bytes(32)), range(_DRIVERS)))
        hold(
            all(keeper.read(each) is not None for each in made), "create: a racing call returned no version of its own"
        )
    finally:
        keeper.destroy()
    hold(keeper.read(version) is None, "destroy: the secret can be read after it")
    keeper.destroy()


def _refuses_another_mark(other: Custody, keeper: Custody, version: str, useless: bytes) -> None:
    """Holds a custody with another mark to leave a secret of the same name alone."""
    other.name = keeper.name
    doings: dict[str, Callable[[], object]] = {
        "create": lambda: other.create(bytes(32)),
        "check": other.check,
        "destroy": other.destroy,
    }
    for doing, do in doings.items():
        hold(_refuses(do), f"{doing}: the secret of another run directory was not refused")
    hold(keeper.read(version) == useless, "the secret of another run directory was changed")


def _refuses(do: Callable[[], object]) -> bool:
    try:
        do()
    except PeBeamError:
        return True
    return False
