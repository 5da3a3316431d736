"""Object stores through the contract that any store has to pass, on servers that speak as they do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pe_beam.contracts.store import Store
from pe_beam.storage.suite import CHECKS, Bench


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.strip("_"))
def test_an_object_store_keeps_its_contract(
    store: Store, check: Callable[[Bench], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PE_BEAM_LEASE_SECONDS", "4")  # of 8 processes that race for one, the holder has to renew it
    check(Bench(store, expiry=60))
