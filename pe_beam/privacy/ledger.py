"""The ledger of spent budget. A line means that its budget is spent. It is on disk before its job starts (rule 6)."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

from pe_beam.contracts.store import Store
from pe_beam.errors import InputError
from pe_beam.keyed import encode_fields

VERSION = 2
LEDGER = "ledger.jsonl"
FIRST = -9
"""The smallest number that an initial measurement may have. The last of a run has 0."""


@dataclass(frozen=True, kw_only=True)
class LedgerLine:
    """What one iteration spends. Iteration 0 is the initial measurement; of several the earlier ones are below 0.

    Attributes:
      version: version of the format, 2.
      iteration: `FIRST` or more.
      sigma: in votes, 0 or more.
      sensitivity: in votes, above 0.
      noise_multiplier: sigma / sensitivity, rounded down; it is 0 if and only if sigma is 0.
      data_hmac: `data_hmac` of everything that the line pays for, 64 hexadecimal digits.

    Raises:
      InputError: a value that no run writes.
    """

    version: int = VERSION
    iteration: int
    sigma: float
    sensitivity: float
    noise_multiplier: float
    data_hmac: str

    def __post_init__(self) -> None:
        """Raises InputError for values that no run writes."""
        _refuse_unless(_is_whole(self.version) and self.version == VERSION, "version", self.version, f"{VERSION}")
        whole = _is_whole(self.iteration) and self.iteration >= FIRST
        _refuse_unless(whole, "iteration", self.iteration, f"a whole number, {FIRST} or more")
        for name, least in (("sigma", 0.0), ("sensitivity", math.ulp(0.0)), ("noise_multiplier", 0.0)):
            value = getattr(self, name)
            fine = isinstance(value, int | float) and not isinstance(value, bool) and least <= value < math.inf
            _refuse_unless(fine, name, value, f"a finite number, {'above 0' if least else '0 or more'}")
            object.__setattr__(self, name, float(value))
        paired = (self.sigma == 0) == (self.noise_multiplier == 0)
        _refuse_unless(paired, "noise_multiplier", self.noise_multiplier, "0 exactly if sigma is 0")
        digest = isinstance(self.data_hmac, str) and re.fullmatch(r"[0-9a-f]{64}", self.data_hmac) is not None
        _refuse_unless(digest, "data_hmac", "its value", "64 hexadecimal digits")

    def to_json(self) -> str:
        """Returns the line without its newline: strict JSON, with keys in the order of the attributes."""
        return json.dumps(asdict(self), allow_nan=False)

    def to_bytes(self) -> bytes:
        """Returns the whole line, as it is appended."""
        return (self.to_json() + "\n").encode("ascii")


def data_hmac(
    secret: bytes,
    *,
    run_id: str,
    fingerprint: str,
    iteration: int,
    sigma: float,
    sensitivity: float,
    grid_bits: int,
) -> str:
    """Binds a line to what it pays for, without revealing anything about secret or data (rule 15).

    The key is the run's secret. No other use of the secret has the same first field, which separates it from the noise.

    Args:
      secret: secret of the run directory, 32 bytes.
      run_id: hash of the resolved recipe.
      fingerprint: fingerprint of the frozen embedding shards.
      iteration: as in `LedgerLine`.
      sigma: in votes, exact.
      sensitivity: in votes, exact.
      grid_bits: b; counts are whole multiples of 2^-b votes.

    Returns:
      HMAC-SHA-256, 64 hexadecimal digits.
    """
    what = (int(iteration), float(sigma).hex(), float(sensitivity).hex(), int(grid_bits))
    fields = encode_fields("pe_beam/ledger", VERSION, run_id, fingerprint, *what)
    return hmac.new(secret, fields, hashlib.sha256).hexdigest()


def parse_ledger(data: bytes) -> tuple[list[LedgerLine], int]:
    """Returns the lines in the order in which they were written, and their length in bytes of `data`.

    An unterminated last line does not count as written. It is beyond this length, and has to be cut off.

    Raises:
      InputError: this version did not write a line, or an iteration has two. The message gives the line number.
    """
    whole = data.rfind(b"\n") + 1
    lines: list[LedgerLine] = []
    seen: set[int] = set()
    for number, text in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        line = _parse_line(text, number)
        if line.iteration in seen:
            raise InputError(f"ledger.jsonl: line {number}: iteration {line.iteration} has a line already")
        seen.add(line.iteration)
        lines.append(line)
    return lines, whole


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, which keeps the order of keys and repeated keys."""


def _parse_line(text: bytes, number: int) -> LedgerLine:
    names = [field.name for field in fields(LedgerLine)]
    try:
        pairs = json.loads(text.decode("utf-8"), object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
        if not isinstance(pairs, _Pairs):
            raise TypeError("not an object")
        found = dict(pairs)
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"ledger.jsonl: line {number}: not a JSON object with the keys of a ledger line") from None
    if "version" in found and (not _is_whole(found["version"]) or found["version"] != VERSION):
        older = _is_whole(found["version"]) and 0 < found["version"] < VERSION
        if older:
            raise InputError(
                f"ledger.jsonl: written by an older pe_beam (ledger version {found['version']}), whose lines do not "
                f"say which recipe they pay for; this one reads version {VERSION}: go on with the older one, or start "
                "a new run directory (its budget adds up with what is spent here)"
            )
        raise InputError(f"ledger.jsonl: line {number}: unknown version; this program reads version {VERSION}")
    if [key for key, _ in pairs] != names:
        raise InputError(f"ledger.jsonl: line {number}: the keys {', '.join(names)} are wanted, once and in this order")
    try:
        return LedgerLine(**found)
    except InputError as error:
        raise InputError(f"ledger.jsonl: line {number}: {error}") from None


def append_line(store: Store, line: LedgerLine) -> None:
    """Appends one line durably. The single driver calls it under the run's lock.

    An unterminated last line is cut off first. When the function returns, the line is durable in the store. When it
    fails, the line may be there; it then means that the budget is spent, like every line.

    Args:
      store: store of the run directory; the ledger may not exist yet.
      line: the budget that will be spent.

    Raises:
      InputError: the iteration has a line already, or the ledger is damaged.
      StorageError: the store cannot write.
    """

    def change(before: bytes | None) -> bytes:
        lines, whole = parse_ledger(before or b"")
        if any(known.iteration == line.iteration for known in lines):
            raise InputError(f"ledger.jsonl: iteration {line.iteration} has a line already")
        return (before or b"")[:whole] + line.to_bytes()

    store.update(LEDGER, change)


def repair_ledger(store: Store) -> list[LedgerLine]:
    """Returns the lines for a resume. It first cuts off an unterminated last line and makes the others durable.

    If a driver was killed between write and fsync, a power failure could still remove its line.

    Raises:
      InputError: the ledger is damaged.
      StorageError: the store cannot write.
    """
    if not store.exists(LEDGER):
        return []
    return parse_ledger(store.update(LEDGER, lambda before: (before or b"")[: parse_ledger(before or b"")[1]]))[0]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_unless(fine: bool, name: str, value: object, allowed: str) -> None:
    if not fine:
        raise InputError(f"{name}: {value!r} is not allowed; {allowed} is wanted")
