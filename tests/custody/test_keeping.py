"""The secret of a run directory in each custody: made once, read, destroyed for good, and never made again."""

from __future__ import annotations

import itertools
import json
import logging
import pickle
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from pe_beam.contracts.custody import Custody
from pe_beam.custody import azure, keeping
from pe_beam.custody.driver_file import DriverFile
from pe_beam.errors import SecretError
from pe_beam.privacy import secret
from pe_beam.privacy.secret_record import RECORD, change_record, read_record
from pe_beam.storage import open_store
from pe_beam.testing import ContractError, check_custody
from tests.custody.attacks import KILLED, at_once, killed, life
from tests.custody.conftest import Place

GIVEN = b"g" * 32


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion of the test's service is shown after one look."""
    monkeypatch.setattr(azure, "SETTLED", 0.5)


def test_a_secret_is_made_once_read_and_destroyed(place: Place, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    held, kept = keeping.ensure_secret(store, place.kind, place.options)
    assert kept is None
    assert len(held) == 32
    assert keeping.read_secret(store) == held
    assert keeping.ensure_secret(store, place.kind, place.options) == (held, None)
    assert place.values() == [held]  # what was rehearsed is gone
    assert held.hex() not in (tmp_path / "run/secret.json").read_text()
    keeping.forget_secret(store)
    assert place.values() == []
    record = read_record(store)
    assert record.deleted
    assert record.destroyed
    for supplied in (None, GIVEN, bytes(held)):
        with pytest.raises(SecretError, match="no other one is ever made"):
            keeping.ensure_secret(store, place.kind, place.options, supplied)
    assert place.values() == []
    keeping.forget_secret(store)


@pytest.mark.parametrize("place", ["google-secret-manager", "aws-secrets-manager", "driver-file"], indirect=True)
def test_a_driver_killed_between_any_two_steps_goes_on_with_its_one_secret(place: Place, tmp_path: Path) -> None:
    _killed_everywhere(place, place.kind, tmp_path)


@pytest.mark.parametrize("place", ["azure-key-vault"], indirect=True)
def test_so_it_does_where_a_deletion_and_a_purge_take_a_while(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    place.service.settings |= {"looks_until_deleted": 1, "looks_until_purged": 1}
    _killed_everywhere(place, place.kind, tmp_path)


@pytest.mark.parametrize("place", ["driver-file"], indirect=True)
def test_and_with_the_secret_in_the_run_directory(place: Place, tmp_path: Path) -> None:
    _killed_everywhere(place, None, tmp_path)


def _killed_everywhere(place: Place, kind: str | None, folder: Path) -> None:
    for number in itertools.count(1):
        run = folder / f"{number}/run"
        run.parent.mkdir()
        go = partial(life, run, kind, place.options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Custody, "rehearse", lambda _: None)  # of values that nobody uses
            status = killed(go, before=number)
            assert status in (0, KILLED)
            if status == KILLED:
                go()
        used = (run.parent / "used").read_bytes()
        assert len({used[i : i + 32] for i in range(0, len(used), 32)}) == 1, f"two secrets, killed before {number}"
        assert place.values() == []
        assert not (run / "private/secret.key").exists()
        assert read_record(open_store(run)).deleted
        if status == 0:
            assert number > 3
            return


def test_of_drivers_at_once_one_wins_and_all_read_its_secret(place: Place, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    found = at_once(4, lambda: keeping.ensure_secret(store, place.kind, place.options)[0])
    assert len(set(found)) == 1
    assert found[0] == keeping.read_secret(store)
    keeping.forget_secret(store)
    assert place.values() == []


@pytest.mark.parametrize("place", ["google-secret-manager", "aws-secrets-manager", "azure-key-vault"], indirect=True)
def test_a_name_serves_one_run_directory(place: Place, tmp_path: Path) -> None:
    named = place.options | {"name": "of-one-run"}
    first, second = open_store(tmp_path / "first"), open_store(tmp_path / "second")
    held, _ = keeping.ensure_secret(first, place.kind, named)
    with pytest.raises(SecretError, match=r"not of this run directory; another privacy\.secret\.name is wanted"):
        keeping.ensure_secret(second, place.kind, named)
    with pytest.raises(SecretError, match="not of this run directory"):
        keeping.forget_secret(second)
    assert keeping.read_secret(first) == held
    keeping.forget_secret(first)
    third = open_store(tmp_path / "third")
    assert keeping.ensure_secret(third, place.kind, named)[0] != held


def test_a_secret_that_is_gone_or_another_one_is_refused(place: Place, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    held, _ = keeping.ensure_secret(store, place.kind, place.options)
    _overwrite(place, held, b"x" * 32)
    with pytest.raises(SecretError, match="another secret than that of this run"):
        keeping.read_secret(store)
    _overwrite(place, b"x" * 32, b"x" * 31)
    with pytest.raises(SecretError, match="32 bytes"):
        keeping.read_secret(store)
    _take_away(place)
    for use in (keeping.read_secret, lambda _: keeping.ensure_secret(store, place.kind, place.options)):
        with pytest.raises(SecretError, match="not there, or was deleted meanwhile"):
            use(store)
    assert place.values() == []
    keeping.forget_secret(store)


def _overwrite(place: Place, old: bytes, new: bytes) -> None:
    if place.service is None:
        for path in place.folder.rglob("pe-beam-*"):
            path.write_bytes(new)
    else:
        for kept in place.service.secrets.values():
            kept.versions = {name: new if value == old else value for name, value in kept.versions.items()}


def _take_away(place: Place) -> None:
    if place.service is None:
        for path in place.folder.rglob("pe-beam-*"):
            path.unlink()
    else:
        place.service.secrets.clear()


def test_a_supplied_secret_is_the_one_that_is_kept(place: Place, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    assert keeping.ensure_secret(store, place.kind, place.options, GIVEN)[0] == GIVEN
    assert keeping.ensure_secret(store, place.kind, place.options, GIVEN)[0] == GIVEN
    with pytest.raises(SecretError, match="--secret-file: not the secret of this run"):
        keeping.ensure_secret(store, place.kind, place.options, b"o" * 32)
    assert keeping.read_secret(store) == GIVEN


def test_it_belongs_to_one_set_of_data(place: Place, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    held, _ = keeping.ensure_secret(store, place.kind, place.options)
    keeping.bind_data(store, held, "a fingerprint")
    keeping.bind_data(store, held, "a fingerprint")
    with pytest.raises(SecretError, match="belongs to other data"):
        keeping.bind_data(store, held, "another fingerprint")
    assert "fingerprint" not in (tmp_path / "run/secret.json").read_text()


def test_it_is_nowhere_but_there(place: Place, tmp_path: Path, caplog, capfd) -> None:
    """Libraries log what they send and receive at DEBUG."""
    store = open_store(tmp_path / "run")
    with caplog.at_level(logging.DEBUG):
        for name in ("botocore", "botocore.parsers", "azure", "google", "google.cloud.secretmanager_v1", "urllib3"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        held, _ = keeping.ensure_secret(store, place.kind, place.options)
        keeping.read_secret(store)
        logging.getLogger("a.host").debug("logs go on")
    said = caplog.text + "".join(capfd.readouterr())
    assert "logs go on" in said
    for form in (held.hex(), repr(bytes(held)), held.decode("latin-1"), *_encoded(held)):
        assert form not in said
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(held)
    assert bytes(held) not in pickle.dumps(store)
    assert _encoded(held)[0] not in repr(read_record(store))
    keeping.forget_secret(store)


def _encoded(held: bytes) -> list[str]:
    from base64 import b64encode

    return [b64encode(held).decode()]


def test_a_recipe_that_says_another_place_is_refused(place: Place, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    keeping.ensure_secret(store, place.kind, place.options)
    key, other_place = {
        "google-secret-manager": ("project", "another-project"),
        "aws-secrets-manager": ("region", "eu-west-1"),
        "azure-key-vault": ("vault", "https://another.example"),
        "driver-file": ("path", "/another"),
    }[place.kind]
    keeping.demand_place(store, place.kind, place.options)
    with pytest.raises(SecretError, match=rf"differs in privacy\.secret\.{key}; put that back"):
        keeping.demand_place(store, place.kind, place.options | {key: other_place})
    with pytest.raises(SecretError, match=r"differs in privacy\.secret\.custody"):
        keeping.demand_place(store, None, {})
    other = open_store(tmp_path / "other")
    secret.create_secret(other)
    with pytest.raises(SecretError, match=r"lies in private/secret\.key already"):
        keeping.ensure_secret(other, place.kind, place.options)


def test_a_record_without_a_version_is_no_secret(place: Place, tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    told = {"custody": place.kind, "options": place.options, "mark": "0" * 32}
    change_record(store, lambda found: found.model_copy(update=told))
    with pytest.raises(SecretError, match="no secret was made yet"):
        keeping.read_secret(store)
    change_record(store, lambda found: found.model_copy(update={"options": {"other": 1}}))
    for use in (keeping.read_secret, lambda _: keeping.ensure_secret(store, place.kind, place.options)):
        with pytest.raises(SecretError, match=r"secret\.json: damaged"):
            use(store)
    assert json.loads((tmp_path / "run" / RECORD).read_text())["version"] == 1


def test_the_contract_is_kept_and_nothing_is_left(place: Place) -> None:
    cls: type[Custody] = keeping.find_custody(place.kind)
    options = cls.Options.model_validate(place.options)
    check_custody(lambda mark: cls(options, mark))
    assert place.values() == []
    if place.service is not None:
        assert place.service.deleted == {}


class Careless(DriverFile):
    """Nothing of what a custody has to do."""

    kept: ClassVar[dict[str, bytes]] = {}

    def create(self, secret: bytes) -> str:
        self.kept[self.name] = bytes(secret)
        return "1"

    def read(self, version: str) -> bytes | None:
        return self.kept.get(self.name)

    def destroy(self) -> None:
        """Later."""


@pytest.mark.parametrize("place", ["driver-file"], indirect=True)
def test_the_contract_finds_a_custody_that_overwrites_or_keeps_secrets(place: Place) -> None:
    options = DriverFile.Options.model_validate(place.options)
    with pytest.raises(ContractError, match="a second call has changed the first one's version"):
        check_custody(lambda mark: Careless(options, mark))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DriverFile, "destroy", lambda _: None)
        with pytest.raises(ContractError, match="can be read after it"):
            check_custody(lambda mark: DriverFile(options, mark))
