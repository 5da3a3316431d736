import json
import math
import os
import pickle
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.errors import InputError, SecretError, StorageError
from pe_beam.privacy import ledger, secret

MAC = "ab" * 32


def _line(iteration: int, **changed: object) -> ledger.LedgerLine:
    fields = {"sigma": 1.5, "sensitivity": 1.0, "noise_multiplier": 1.5, "data_hmac": MAC}
    return ledger.LedgerLine(iteration=iteration, **(fields | changed))  # type: ignore[arg-type]


def test_appends_and_reads_back(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append_line(path, _line(1))
    ledger.append_line(path, _line(2))
    assert ledger.parse_ledger(path.read_bytes()) == ([_line(1), _line(2)], path.stat().st_size)
    before = path.read_bytes()
    with pytest.raises(InputError, match="already"):
        ledger.append_line(path, _line(2, sigma=9.0))
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
        assert ledger.settle_ledger(path) == [_line(1)]
        assert path.read_bytes() == whole
        path.write_bytes(whole + _line(2).to_bytes()[:length])
        ledger.append_line(path, _line(3))
        assert path.read_bytes() == whole + _line(3).to_bytes()


def test_settling_nothing_makes_nothing(tmp_path):
    assert ledger.settle_ledger(tmp_path / "ledger.jsonl") == []
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_line_is_on_disk_before_append_returns(tmp_path, monkeypatch):
    """The file is synced after its bytes are there, and then its folder."""
    path, seen = tmp_path / "ledger.jsonl", []
    real = os.fsync

    def fsync(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        seen.append("folder" if is_folder else path.read_bytes())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    ledger.append_line(path, _line(1))
    assert seen == [_line(1).to_bytes(), "folder"]


def test_a_full_disk_is_a_storage_error(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space"):
        ledger.append_line(tmp_path / "ledger.jsonl", _line(1))
    with pytest.raises(StorageError, match=r"ledger\.jsonl"):
        ledger.append_line(tmp_path / "missing" / "ledger.jsonl", _line(1))


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
    path, temporary = tmp_path / "secret.key", tmp_path / "attempts"
    temporary.mkdir()
    secret.create_secret(path, temporary=temporary)
    first = secret.read_secret(path)
    secret.create_secret(path, temporary=temporary)
    assert secret.read_secret(path) == first
    assert len(first) == secret.SECRET_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(temporary.iterdir()) == []
    secret.delete_secret(path)
    secret.delete_secret(path)
    with pytest.raises(SecretError, match="cannot be read"):
        secret.read_secret(path)
    secret.create_secret(path, temporary=temporary)
    assert secret.read_secret(path) != first


def test_deleting_takes_copies_of_a_killed_driver_too(tmp_path, monkeypatch):
    path, temporary = tmp_path / "secret.key", tmp_path / "attempts"
    temporary.mkdir()
    (temporary / "of-others").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(secret.Path, "unlink", lambda *_args, **_kwargs: None)  # killed before the copy was removed
        secret.create_secret(path, temporary=temporary)
    assert len(list(temporary.iterdir())) == 2
    secret.delete_secret(path, temporary=temporary)
    assert [entry.name for entry in temporary.iterdir()] == ["of-others"]


def test_a_supplied_secret_is_copied_and_has_to_be_32_bytes(tmp_path):
    given, path = tmp_path / "given", tmp_path / "key"
    for wrong in (b"", b"x" * 31, b"x" * 32 + b"\n", b"78" * 32):
        given.write_bytes(wrong)
        with pytest.raises(SecretError, match="32 raw bytes"):
            secret.adopt_secret(given, path, temporary=tmp_path)
    given.write_bytes(b"x" * 32)
    secret.adopt_secret(given, path, temporary=tmp_path)
    secret.adopt_secret(given, path, temporary=tmp_path)
    assert given.exists()
    assert secret.read_secret(path) == b"x" * 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    given.write_bytes(b"y" * 32)
    with pytest.raises(SecretError, match="another secret"):
        secret.adopt_secret(given, path, temporary=tmp_path)
    assert secret.read_secret(path) == b"x" * 32


def test_a_secret_never_shows_itself(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"topsecret" + bytes(22))
    with pytest.raises(SecretError) as short:
        secret.read_secret(path)
    path.write_bytes(b"topsecret" + bytes(23))
    value = secret.read_secret(path)
    shown = [repr(value), str(value), f"{value}", f"{value!r:>50}", f"{[value]}", str(short.value)]
    assert not any("topsecret" in text for text in shown)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(value)


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="secret"):
        secret.create_secret(tmp_path / "missing" / "key", temporary=tmp_path)
    assert list(tmp_path.iterdir()) == []
