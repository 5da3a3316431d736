import json
import math
import os
import pickle
import stat
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.errors import InputError, SecretError, StorageError
from pe_beam.privacy import ledger, secret
from pe_beam.privacy.mechanism import open_mechanism
from pe_beam.privacy.secret_record import RECORD, read_record
from pe_beam.storage import local, open_store

MAC = "ab" * 32


def _line(iteration: int, **changed: object) -> ledger.LedgerLine:
    fields = {"sigma": 1.5, "sensitivity": 1.0, "noise_multiplier": 1.5, "data_hmac": MAC}
    return ledger.LedgerLine(iteration=iteration, **(fields | changed))  # type: ignore[arg-type]


def test_appends_and_reads_back(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append_line(open_store(tmp_path), _line(1))
    ledger.append_line(open_store(tmp_path), _line(2))
    assert ledger.parse_ledger(path.read_bytes()) == ([_line(1), _line(2)], path.stat().st_size)
    before = path.read_bytes()
    with pytest.raises(InputError, match="already"):
        ledger.append_line(open_store(tmp_path), _line(2, sigma=9.0))
    assert path.read_bytes() == before
    assert list(json.loads(before.splitlines()[0])) == [
        "version",
        "iteration",
        "sigma",
        "sensitivity",
        "noise_multiplier",
        "data_hmac",
    ]


@given(iteration=st.integers(0, 10**6), sigma=st.floats(1e-9, 1e12), sensitivity=st.floats(1e-9, 1e9))
def test_every_line_reads_back_exactly(iteration, sigma, sensitivity):
    line = _line(iteration, sigma=sigma, sensitivity=sensitivity, noise_multiplier=sigma / sensitivity)
    assert ledger.parse_ledger(line.to_bytes())[0] == [line]


def test_a_write_cut_off_anywhere_was_never_written(tmp_path):
    path = tmp_path / "ledger.jsonl"
    whole = _line(1).to_bytes()
    for length in range(len(_line(2).to_bytes())):
        path.write_bytes(whole + _line(2).to_bytes()[:length])
        assert ledger.parse_ledger(path.read_bytes()) == ([_line(1)], len(whole))
        assert ledger.repair_ledger(open_store(tmp_path)) == [_line(1)]
        assert path.read_bytes() == whole
        path.write_bytes(whole + _line(2).to_bytes()[:length])
        ledger.append_line(open_store(tmp_path), _line(3))
        assert path.read_bytes() == whole + _line(3).to_bytes()


def test_settling_nothing_makes_nothing(tmp_path):
    assert ledger.repair_ledger(open_store(tmp_path)) == []
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_line_is_on_disk_before_append_returns(tmp_path, monkeypatch):
    """The file is synced after its bytes are there, and its folder once it has its name; a second line as the first."""
    path, seen = tmp_path / "ledger.jsonl", []
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            seen.append(("folder", path.read_bytes()))
        else:
            seen.append(Path(f"/proc/self/fd/{handle}").read_bytes())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    ledger.append_line(open_store(tmp_path), _line(1))
    one, both = _line(1).to_bytes(), _line(1).to_bytes() + _line(2).to_bytes()
    assert seen == [one, ("folder", one)]
    ledger.append_line(open_store(tmp_path), _line(2))
    assert seen[2:] == [both, ("folder", both)]
    ledger.repair_ledger(open_store(tmp_path))
    assert seen[4:] == [both, ("folder", both)], "a killed driver may have come no further than its write"


def test_a_full_disk_is_a_storage_error(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"writing ledger\.jsonl failed: no space"):
        ledger.append_line(open_store(tmp_path), _line(1))
    assert not (tmp_path / "ledger.jsonl").exists()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"ledger\.jsonl"):
        ledger.append_line(open_store(tmp_path / "file"), _line(1))


GOOD = _line(1).to_json()
BAD = {
    "text": "x",
    "empty": "",
    "array": json.dumps([["version", 1]]),
    "number": "1",
    "version": GOOD.replace('"version": 2', '"version": 3'),
    "true": GOOD.replace('"version": 2', '"version": true'),
    "other version, other keys": '{"version": 3}',
    "missing keys": '{"version": 2, "iteration": 1}',
    "repeated key": GOOD.replace('"iteration": 1', '"iteration": 1, "iteration": 1'),
    "unknown key": GOOD.replace("}", ', "more": 1}'),
    "order": json.dumps(dict(reversed(json.loads(GOOD).items()))),
    "nan": GOOD.replace('"sigma": 1.5', '"sigma": NaN'),
    "infinity": GOOD.replace('"sigma": 1.5', '"sigma": Infinity'),
    "overflow": GOOD.replace('"sigma": 1.5', '"sigma": 1e999'),
    "negative": GOOD.replace('"sigma": 1.5', '"sigma": -1.5'),
    "no noise": GOOD.replace('"sigma": 1.5', '"sigma": 0'),
    "string": GOOD.replace('"sigma": 1.5', '"sigma": "1.5"'),
    "sensitivity": GOOD.replace('"sensitivity": 1.0', '"sensitivity": 0'),
    "fraction": GOOD.replace('"iteration": 1', '"iteration": 1.0'),
    "digest": GOOD.replace(MAC, "zz"),
    "carriage return": GOOD + "\r{}",
}


@pytest.mark.parametrize("name", BAD)
def test_a_line_of_another_hand_is_refused(name):
    first = _line(0).to_bytes()
    with pytest.raises(InputError, match="line 2"):
        ledger.parse_ledger(first + BAD[name].encode() + b"\n")


def test_bytes_that_are_no_text_and_second_lines_are_refused(tmp_path):
    with pytest.raises(InputError, match="line 1"):
        ledger.parse_ledger(b"\xff\xfe\n")
    with pytest.raises(InputError, match="line 2: iteration 1 has a line already"):
        ledger.parse_ledger(_line(1).to_bytes() * 2)


def test_lines_without_noise_and_bad_values():
    assert _line(1, sigma=0, noise_multiplier=0).to_json().count(": 0.0") == 2
    for bad in ({"sigma": math.nan}, {"sensitivity": math.inf}, {"data_hmac": "x"}, {"version": 1}):
        with pytest.raises(InputError, match=next(iter(bad))):
            _line(1, **bad)


def test_a_ledger_of_an_older_version_is_refused_in_one_sentence():
    older = GOOD.replace('"version": 2', '"version": 1').encode() + b"\n"
    with pytest.raises(InputError, match="written by an older pe_beam") as caught:
        ledger.parse_ledger(older)
    assert "\n" not in str(caught.value)


def test_hmac_depends_on_all_that_a_line_pays_for():
    paid = {"run_id": "r", "fingerprint": "f", "iteration": 1, "sigma": 1.5, "sensitivity": 1.0, "grid_bits": 0}
    others = [{}, {"run_id": "s"}, {"fingerprint": "g"}, {"iteration": 2}, {"sigma": math.nextafter(1.5, 2)}]
    others += [{"sensitivity": 2.0}, {"grid_bits": 8}]
    macs = {ledger.data_hmac(key, **(paid | other)) for key in (bytes(32), b"x" * 32) for other in others}
    assert len(macs) == 2 * len(others)
    assert all(len(mac) == 64 for mac in macs)


def test_secret_is_made_once_read_and_forgotten(tmp_path):
    store, path = open_store(tmp_path), tmp_path / "private/secret.key"
    secret.create_secret(store)
    first = secret.read_secret(store)
    secret.create_secret(store)
    assert secret.read_secret(store) == first
    assert len(first) == secret.SECRET_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list((tmp_path / "private/attempts").iterdir()) == []
    secret.delete_secret(store)
    secret.delete_secret(store)
    with pytest.raises(SecretError, match="cannot be read"):
        secret.read_secret(store)
    given = tmp_path / "given"
    given.write_bytes(first)
    for again in (secret.create_secret, partial(secret.adopt_secret, given), partial(secret.replace_secret, given)):
        with pytest.raises(SecretError, match="no other one is ever made"):
            again(store)
    assert not path.exists()


def test_a_tombstone_comes_before_the_end_and_a_secret_that_a_kill_has_left_still_counts(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    secret.create_secret(store)
    held = secret.read_secret(store)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "delete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            secret.delete_secret(store)
    assert read_record(store).deleted
    secret.create_secret(store)  # no other one is drawn
    assert secret.read_secret(store) == held
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "delete", lambda *_: None)
        with pytest.raises(SecretError, match="still there"):
            secret.delete_secret(store)
    secret.delete_secret(store)
    assert not store.exists(secret.SECRET)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"version": 2}', b'{"version": 1, "other": 1}', b"\xff"])
def test_a_damaged_record_is_refused_and_nothing_is_drawn(tmp_path, damaged):
    store = open_store(tmp_path)
    (tmp_path / RECORD).write_bytes(damaged)
    for use in (secret.create_secret, secret.delete_secret):
        with pytest.raises(SecretError, match=r"secret\.json: damaged"):
            use(store)
    assert not store.exists(secret.SECRET)


def test_deleting_takes_copies_of_a_killed_driver_too(tmp_path, monkeypatch):
    store, attempts = open_store(tmp_path), tmp_path / "private/attempts"
    attempts.mkdir(parents=True)
    (attempts / "of-others").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(local.Path, "unlink", lambda *_args, **_kwargs: None)  # killed before the copy was removed
        secret.create_secret(store)
    assert len(list(attempts.iterdir())) == 2
    secret.delete_secret(store)
    assert [entry.name for entry in attempts.iterdir()] == ["of-others"]


def test_the_last_sweep_takes_copies_that_earlier_versions_left(tmp_path):
    attempts = tmp_path / "private/attempts"
    attempts.mkdir(parents=True)
    (attempts / "secret-ab12").write_bytes(b"x" * 32)
    open_store(tmp_path).sweep_attempts()
    assert not attempts.exists()


def test_a_supplied_secret_is_copied_and_has_to_be_32_bytes(tmp_path):
    given, store = tmp_path / "given", open_store(tmp_path)
    for wrong in (b"", b"x" * 31, b"x" * 32 + b"\n", b"78" * 32):
        given.write_bytes(wrong)
        with pytest.raises(SecretError, match="32 raw bytes"):
            secret.adopt_secret(given, store)
    given.write_bytes(b"x" * 32)
    secret.adopt_secret(given, store)
    secret.adopt_secret(given, store)
    assert given.exists()
    assert secret.read_secret(store) == b"x" * 32
    assert stat.S_IMODE((tmp_path / "private/secret.key").stat().st_mode) == 0o600
    given.write_bytes(b"y" * 32)
    with pytest.raises(SecretError, match="another secret"):
        secret.adopt_secret(given, store)
    assert secret.read_secret(store) == b"x" * 32


def test_a_secret_never_shows_itself(tmp_path):
    path, store = tmp_path / "private/secret.key", open_store(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"topsecret" + bytes(22))
    with pytest.raises(SecretError) as short:
        secret.read_secret(store)
    path.write_bytes(b"topsecret" + bytes(23))
    for value in (secret.read_secret(store), secret.read_secret_file(path)):
        shown = [repr(value), str(value), f"{value}", f"{value!r:>50}", f"{[value]}", str(short.value), repr(store)]
        assert not any("topsecret" in text for text in shown)
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(value)
    assert b"topsecret" not in pickle.dumps(store)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="secret"):
        secret.create_secret(open_store(tmp_path / "file"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_mechanism_whose_secret_was_deleted_draws_no_second_one_when_its_ledger_is_lost(tmp_path):
    store = open_store(tmp_path)
    mechanism = open_mechanism(store, "visits", epsilon=1, delta=1e-6)
    mechanism.forget_secret()
    assert open_mechanism(store, "visits", epsilon=1, delta=1e-6).sigma == mechanism.sigma
    (tmp_path / ledger.LEDGER).unlink()
    with pytest.raises(SecretError, match="no other one is ever made"):
        open_mechanism(store, "visits", epsilon=1, delta=1e-6)
    assert not store.exists(ledger.LEDGER)
