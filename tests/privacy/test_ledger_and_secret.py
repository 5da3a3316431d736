import stat

import pytest

from pe_beam.errors import InputError, SecretError
from pe_beam.privacy import ledger, secret


def _line(iteration: int) -> ledger.LedgerLine:
    return ledger.LedgerLine(iteration=iteration, sigma=1.5, sensitivity=1.0, noise_multiplier=1.5, data_hmac="ab")


def test_appends_and_reads_back(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append_line(path, _line(1))
    ledger.append_line(path, _line(2))
    assert ledger.parse_ledger(path.read_bytes())[0] == [_line(1), _line(2)]
    with pytest.raises(InputError, match="already"):
        ledger.append_line(path, _line(2))


def test_an_unterminated_line_was_never_written(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append_line(path, _line(1))
    path.write_bytes(path.read_bytes() + b'{"version": 1, "iter')
    assert ledger.parse_ledger(path.read_bytes())[0] == [_line(1)]
    ledger.append_line(path, _line(2))
    assert ledger.parse_ledger(path.read_bytes())[0] == [_line(1), _line(2)]


@pytest.mark.parametrize("bad", [b"x\n", b'{"version": 2}\n', b'{"version": 1, "iteration": 1}\n'])
def test_a_line_of_another_hand_is_refused(bad):
    with pytest.raises(InputError, match="line 1"):
        ledger.parse_ledger(bad)


def test_secret_is_made_once_read_and_forgotten(tmp_path):
    path = tmp_path / "secret.key"
    secret.create_secret(path, temporary=tmp_path)
    first = secret.read_secret(path)
    secret.create_secret(path, temporary=tmp_path)
    assert secret.read_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret.delete_secret(path)
    secret.delete_secret(path)
    with pytest.raises(SecretError, match="cannot be read"):
        secret.read_secret(path)


def test_a_supplied_secret_is_copied_and_has_to_be_32_bytes(tmp_path):
    given = tmp_path / "given"
    given.write_bytes(b"x" * 31)
    with pytest.raises(SecretError, match="32 raw bytes"):
        secret.adopt_secret(given, tmp_path / "key", temporary=tmp_path)
    given.write_bytes(b"x" * 32)
    secret.adopt_secret(given, tmp_path / "key", temporary=tmp_path)
    assert given.exists()
    assert secret.read_secret(tmp_path / "key") == b"x" * 32
