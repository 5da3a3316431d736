"""The stores of this machine through the contract that any store has to pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pe_beam.contracts.store import Store
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.storage import open_store
from pe_beam.storage.local import LocalStore
from pe_beam.storage.memory import MemoryStore
from pe_beam.storage.suite import CHECKS, Bench
from pe_beam.testing import ContractError, check_store

_NEXT = itertools.count()


def _memory() -> Store:
    return open_store(f"memory://tests/{next(_NEXT)}")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.strip("_"))
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_store_keeps_its_contract(kind: str, check: Callable[[Bench], None], tmp_path: Path) -> None:
    store = open_store(tmp_path / "run") if kind == "local" else _memory()
    check(Bench(store, apart=kind == "local"))


def test_a_store_is_found_by_its_scheme(tmp_path):
    assert open_store(f"file://{tmp_path}/a%20b") == open_store(tmp_path / "a b") == LocalStore(str(tmp_path / "a b"))
    assert isinstance(open_store("memory://x"), MemoryStore)
    for scheme in ("gs", "s3", "az"):
        assert open_store(f"{scheme}://bucket/run").uri == f"{scheme}://bucket/run"
    with pytest.raises(
        InputError, match=r"--run-dir nothing://x: no store is known by nothing://.* az://, file://, gs"
    ):
        open_store("nothing://x")


@pytest.mark.parametrize("scheme", ["gs", "S3", "file"])
def test_a_url_that_has_lost_a_slash_is_no_folder(scheme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{scheme}:// with two slashes is wanted"):
        open_store(Path(f"{scheme}://bucket/run"))
    assert isinstance(open_store(f"./{scheme}:/bucket/run"), LocalStore)


class Forgetful(MemoryStore):
    """Commits again what is there: the suite has to notice."""

    def commit(self, name, write, *, replace=False):
        return super().commit(name, write, replace=True)


class Lossy(MemoryStore):
    """Swaps whatever the version is."""

    def swap(self, name, data, expected):
        return super().commit(name, data, replace=True)


@pytest.mark.parametrize("kind", [Forgetful, Lossy])
def test_the_suite_refuses_stores_that_break_it(kind):
    with pytest.raises(ContractError, match=r"commit|swap|update"):
        check_store(lambda: kind(f"memory://broken/{next(_NEXT)}"), apart=False)


def test_a_store_of_a_third_party_is_found_by_its_entry_point(tmp_path, monkeypatch):
    package = tmp_path / "stranger-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    points = "[pe_beam.stores]\nstranger = stranger_store:StrangerStore\nwanting = stranger_store.no_such_package:X\n"
    (package / "entry_points.txt").write_text(points)
    code = "from pe_beam.storage.memory import MemoryStore\n\n\nclass StrangerStore(MemoryStore):\n    pass\n"
    (tmp_path / "stranger_store.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    store = open_store("stranger://somewhere")
    assert type(store).__name__ == "StrangerStore"
    check_store(lambda: open_store(f"stranger://{next(_NEXT)}"), apart=False)
    with pytest.raises(MissingExtraError, match="no_such_package"):
        open_store("wanting://somewhere")
