"""A mechanism for one histogram of a user's own pipeline: a ledger entry, a secret, and noise that is drawn once.

The run directory of the mechanism is `URI/NAME`. It contains `ledger.jsonl` (one line), `private/secret.key`, and
`private/noised` and `private/noised-over`, which identify the counts that were given noise and what was voted on. Exact
counts and the noisy histogram are in the store that `NoisyHistogram` gets as `commit`.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import math
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.mechanism import Mechanism
from pe_beam.contracts.store import Store
from pe_beam.contracts.votes import Adjacency, Tally, Unit
from pe_beam.errors import InputError, SecretError
from pe_beam.keyed import encode_fields
from pe_beam.privacy import accounting, ledger, noise, secret
from pe_beam.privacy.pledge import pledge

NOISED, NOISED_OVER = "private/noised", "private/noised-over"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FORMAT = "pe_beam/mechanism/1"
_ITERATION = 1  # iteration of the only ledger line


@dataclass(frozen=True)
class GaussianMechanism(Mechanism):
    """The Gaussian mechanism, exactly rounded to the grid of votes, for one histogram. `open_mechanism` makes it.

    It covers one histogram of counts, in which a privacy unit casts the votes that `unit` and `votes_per_record` allow.
    Any later use of the noisy histogram costs no budget. The budgets of several mechanisms over the same data add up.

    Attributes:
      store: the mechanism's own directory.
      name: the id that the user gave to it.
      epsilon: epsilon of (epsilon, delta)-differential privacy.
      delta: a declared number.
      unit: the privacy unit: a record, or all records of a client.
      adjacency: the neighbouring relation.
      votes_per_record: k, for the unit record; 1 for clients.

    >>> from pe_beam.storage import open_store
    >>> mechanism = open_mechanism(open_store("memory://clicks"), "clicks", epsilon=0.5, delta=1e-6, votes_per_record=4)
    >>> mechanism.sigma == 2 * mechanism.noise_multiplier  # sensitivity: the square root of 4 votes
    True
    """

    store: Store
    name: str
    epsilon: float
    delta: float
    unit: Unit
    adjacency: Adjacency
    votes_per_record: int

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise, in votes."""
        return self._line().sigma

    @property
    def noise_multiplier(self) -> float:
        """Sigma / sensitivity, the number that an accountant composes."""
        return self._line().noise_multiplier

    def grid_bits(self) -> int:
        """See `Grid`."""
        return noise.grid_bits_for(self.sigma, self.unit)

    def commit_counts(self, store: Store, tally: Tally) -> None:
        """See `Mechanism`."""
        if (tally.unit, tally.grid_bits) != (self.unit, self.grid_bits()):
            raise InputError(
                f"mechanism {self.name!r}: votes were counted by another unit or on another grid than noise is for; "
                "give Vote the same unit, and the mechanism as its grid"
            )
        if tally.votes_per_record > self.votes_per_record:
            raise InputError(f"mechanism {self.name!r}: a record casts more than {self.votes_per_record} votes")
        mine = pa.table({"count": pa.array(tally.counts, pa.int64())})
        mine = mine.replace_schema_metadata({"pe_beam.matrix": tally.digest, "pe_beam.mechanism": self._id()})
        sink = io.BytesIO()
        pq.write_table(mine, sink)
        if not store.commit(self._at("counts"), sink.getvalue()) and not self._counts(store).equals(mine, True):
            raise InputError(
                f"mechanism {self.name!r}: other counts are committed; one ledger entry pays for one histogram. "
                "Open a mechanism of another name (its budget adds up)"
            )

    def noisy(self, store: Store) -> pa.Table:
        """See `Mechanism`. Columns: position (int64) and noisy_votes (float64)."""
        name = self._at("histogram")
        if not store.exists(name):
            exact, line, bits = self._counts(store), self._line(), self.grid_bits()
            counts = exact["count"].to_numpy()
            digest = hashlib.sha256(encode_fields(counts.astype(">i8").tobytes())).digest()
            key = noise.noise_key(
                secret=self._secret(line),
                run_id=self._id(),
                fingerprint="",
                iteration=_ITERATION,
                sigma=line.sigma,
                grid_bits=bits,
                counts_digest=digest,
            )
            self._pledge(key, (exact.schema.metadata or {})[b"pe_beam.matrix"])
            labels = np.zeros(len(counts), dtype=np.int32)
            votes = noise.add_noise(counts=counts, labels=labels, sigma=line.sigma, grid_bits=bits, key=key)
            sink = io.BytesIO()
            pq.write_table(pa.table({"position": np.arange(len(votes)), "noisy_votes": votes}), sink)
            store.commit(name, sink.getvalue())
        return _parsed(store.read(name))

    def forget_secret(self) -> None:
        """Deletes the secret, with which anyone could remove the noise. Call it after the histogram is committed."""
        secret.delete_secret(self.store)

    def _at(self, what: str) -> str:
        """Returns a file name. Exact counts are below `private`, the histogram is not."""
        return f"private/{self.name}/counts.parquet" if what == "counts" else f"{self.name}/histogram.parquet"

    def _counts(self, store: Store) -> pa.Table:
        table = _parsed(store.read(self._at("counts")))
        if (table.schema.metadata or {}).get(b"pe_beam.mechanism") != self._id().encode():
            raise InputError(f"mechanism {self.name!r}: counts of another mechanism lie there; commit to another store")
        return table

    def _id(self) -> str:
        what = (self.name, float(self.epsilon).hex(), float(self.delta).hex(), self.unit, self.adjacency)
        return hashlib.sha256(encode_fields(_FORMAT, *map(str, what), self.votes_per_record)).hexdigest()

    def _line(self) -> ledger.LedgerLine:
        if self.store.exists(ledger.LEDGER):
            lines, _ = ledger.parse_ledger(self.store.read(ledger.LEDGER))
            if lines:
                return lines[0]
        raise InputError(f"mechanism {self.name!r}: its ledger entry is gone; put {ledger.LEDGER} back")

    def _secret(self, line: ledger.LedgerLine) -> secret.Secret:
        held = secret.read_secret(self.store)
        if not hmac.compare_digest(self._hmac(held, line.sigma, line.sensitivity), line.data_hmac):
            raise SecretError(f"mechanism {self.name!r}: its ledger entry pays for another mechanism or another secret")
        return held

    def _hmac(self, held: bytes, sigma: float, sensitivity: float) -> str:
        return ledger.data_hmac(
            held,
            run_id=self._id(),
            fingerprint="",  # there are no frozen data; the pledged counts bind what is paid for
            iteration=_ITERATION,
            sigma=sigma,
            sensitivity=sensitivity,
            grid_bits=noise.grid_bits_for(sigma, self.unit),
        )

    def _pledge(self, key: bytes, candidates: bytes) -> None:
        """Records which counts over which candidates get noise before they get it, so that no others ever get noise."""
        if not (pledge(self.store, NOISED, key) and pledge(self.store, NOISED_OVER, candidates)):
            raise InputError(
                f"mechanism {self.name!r}: other counts were given noise before; another noise costs budget again. "
                "Open a mechanism of another name (its budget adds up)"
            )


def _parsed(data: bytes) -> pa.Table:
    """Reads Parquet in this thread alone: another may hold the bytes as a short process ends."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return file.read(use_threads=False)


def open_mechanism(
    store: Store,
    name: str,
    *,
    epsilon: float,
    delta: float,
    unit: Unit | str = Unit.RECORD,
    adjacency: Adjacency | str = Adjacency.ADD_OR_REMOVE_ONE,
    votes_per_record: int = 1,
) -> GaussianMechanism:
    """Writes the ledger entry of one histogram, or finds it again. The budget is spent when the function returns.

    Args:
      store: the mechanism's own directory: `pe_beam.storage.open_store(f"{uri}/{name}")`.
      name: the user's id: 1 to 64 letters, digits, `_`, `.` and `-`; it starts with a letter or digit.
      epsilon: 0.001 to 1000.
      delta: above 0, below 1: a declared number, never computed from the data.
      unit: the privacy unit.
      adjacency: the neighbouring relation.
      votes_per_record: k, for the unit record: a record casts at most k votes of 1.

    Raises:
      InputError: a value is not allowed, or the mechanism was opened before with other values.
      SecretError: the mechanism was opened before with other values or another secret, or its secret is unreadable.

    >>> from pe_beam.storage import open_store
    >>> mechanism = open_mechanism(open_store("memory://visits"), "visits", epsilon=1, delta=1e-6)
    >>> again = open_mechanism(open_store("memory://visits"), "visits", epsilon=1, delta=1e-6)
    >>> mechanism.sigma == again.sigma > 3
    True
    """
    unit, adjacency = Unit(unit), Adjacency(adjacency)
    if not _NAME.fullmatch(name):
        raise InputError(f"mechanism: name {name!r} is not allowed; letters, digits, _ . and - are wanted")
    if not 0 < epsilon < math.inf or not 0 < delta < 1 or votes_per_record < 1:
        raise InputError("mechanism: epsilon above 0, delta between 0 and 1 and 1 vote or more are wanted")
    if unit is Unit.CLIENT and votes_per_record != 1:
        raise InputError("mechanism: votes_per_record is for unit record; a client's votes have norm 1 in all")
    sensitivity = accounting.sensitivity(unit=unit, adjacency=adjacency, votes_per_record=votes_per_record)
    schedule = accounting.calibrate(
        epsilon=epsilon,
        delta=delta,
        weights=[1.0],
        label_share=0.0,
        label_sensitivity=sensitivity,
        sensitivity=sensitivity,
    )
    accounting.check_schedule(schedule, epsilon, delta)
    sigma, multiplier = schedule.sigmas[0], schedule.noise_multipliers[0]
    noise.refuse_unless_drawn(sigma, unit)
    made = GaussianMechanism(store, name, epsilon, delta, unit, adjacency, votes_per_record)
    with store.lease("lock"):
        lines = ledger.repair_ledger(store)
        if not lines:
            secret.create_secret(store)
            held = secret.read_secret(store)
            line = ledger.LedgerLine(
                iteration=_ITERATION,
                sigma=sigma,
                sensitivity=sensitivity,
                noise_multiplier=multiplier,
                data_hmac=made._hmac(held, sigma, sensitivity),
            )
            ledger.append_line(store, line)
        elif (lines[0].sigma, lines[0].sensitivity) != (sigma, sensitivity):
            raise InputError(f"mechanism {name!r}: it was opened with other values; each name is one mechanism")
        elif store.exists(secret.SECRET):  # the secret may be deleted after the histogram: no noise is drawn any more
            made._secret(lines[0])
    return made
