"""The ledger is truth: a line means spent, and is on disk before the job that spends it starts (rule 6)."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pe_beam.errors import InputError
from pe_beam.keyed import encode_fields

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LedgerLine:
    """What one iteration spends; iteration 0 is bought label shares.

    Attributes:
      sigma: in votes.
      sensitivity: in votes.
      noise_multiplier: sigma over sensitivity, rounded down.
      data_hmac: HMAC of the data's fingerprint under the secret, hex.
    """

    version: int = VERSION
    iteration: int
    sigma: float
    sensitivity: float
    noise_multiplier: float
    data_hmac: str

    def __post_init__(self) -> None:
        """Refuses what no run writes."""
        numbers = (self.sigma, self.noise_multiplier)
        fine = self.iteration >= 0 and all(0 <= x < math.inf for x in numbers) and 0 < self.sensitivity < math.inf
        if self.version != VERSION or not fine or not isinstance(self.data_hmac, str):
            raise ValueError("not a ledger line of this version")

    def to_bytes(self) -> bytes:
        """One JSON line."""
        return (json.dumps(asdict(self), allow_nan=False) + "\n").encode()


def data_hmac(secret: bytes, fingerprint: str) -> str:
    """Ties a line to secret and data without telling anything of either."""
    return hmac.new(secret, encode_fields("pe_beam/ledger/1", fingerprint), hashlib.sha256).hexdigest()


def parse_ledger(data: bytes) -> tuple[list[LedgerLine], int]:
    """The lines, and how many bytes of them are whole: an unterminated last line was never written.

    Raises:
      InputError: a line that this version did not write, or two of one iteration.
    """
    whole = data.rfind(b"\n") + 1
    lines: list[LedgerLine] = []
    for number, text in enumerate(data[:whole].splitlines(), start=1):
        try:
            lines.append(LedgerLine(**json.loads(text)))
        except (ValueError, TypeError):
            raise InputError(f"ledger.jsonl: line {number} is not a ledger line of version {VERSION}") from None
    if len({line.iteration for line in lines}) != len(lines):
        raise InputError("ledger.jsonl: two lines for one iteration")
    return lines, whole


def append_line(path: Path, line: LedgerLine) -> None:
    """Appends one line durably; called by the one driver, under the run's lock.

    Raises:
      InputError: the iteration has a line already.
      OSError: the disk says no; what was written of the line is cut off again by the next append.
    """
    old = path.read_bytes() if path.exists() else b""
    lines, whole = parse_ledger(old)
    if any(known.iteration == line.iteration for known in lines):
        raise InputError(f"ledger.jsonl: iteration {line.iteration} has a line already")
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(whole)
        file.seek(whole)
        file.write(line.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
