"""The lines of a book: JSON, one a line, each with the digest of itself and of all lines before it.

The chain finds lines that were lost, changed, put in between or brought in from another book. It has no key: whoever
may write the book could also run without one. What a line binds of secret and data are HMACs, as in a run's ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pe_beam.errors import InputError
from pe_beam.privacy.subsampled import Spending

BOOK = "book.jsonl"
NAME = r"[A-Za-z0-9][A-Za-z0-9_. -]{0,63}"
_Multiplier = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Mark = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Unit = Literal["record", "client"]
Adjacency = Literal["add-or-remove-one", "replace-one"]


class Closed(BaseModel):
    """A model that takes its own keys alone, and no number for a text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Cost(Closed):
    """What a run spends at most: the noise of each of its rounds, as privacy.json names it.

    Attributes:
      noise_multiplier: of iterations 1 to T.
      label_shares_noise_multiplier: of the initial measurements together, or None.
      measurements: of each of several initial measurements, the last of them in iteration 0; empty: one, or none.
      sampling_rate: of iterations 1 to T.
      windows: how often all of it may see one unit: 1, or the windows of a stream that a unit can be in.
    """

    noise_multiplier: list[_Multiplier] = Field(min_length=1)
    label_shares_noise_multiplier: _Multiplier | None
    measurements: list[_Multiplier] = []
    sampling_rate: float = Field(gt=0, le=1)
    windows: int = Field(ge=1)

    def by_iteration(self) -> dict[int, float]:
        """Returns the noise multiplier of each iteration that spends."""
        bought = self.measurements
        if not bought and self.label_shares_noise_multiplier is not None:
            bought = [self.label_shares_noise_multiplier]
        return dict(enumerate([*bought, *self.noise_multiplier], start=1 - len(bought)))

    def spendings(self) -> list[Spending]:
        """Returns all that is spent, sampling counted."""
        rates = {iteration: self.sampling_rate if iteration > 0 else 1.0 for iteration in self.by_iteration()}
        return [Spending(z, rates[t]) for t, z in self.by_iteration().items()] * self.windows

    def squared(self, iterations: Sequence[int] | None = None) -> Fraction:
        """Returns mu^2 = sum 1/z^2 of some iterations, or of all, exactly, as if all units had taken part.

        Of all of them, several initial measurements count by their common multiplier, as the run's statement has it.
        """
        if iterations is None:
            bought = self.label_shares_noise_multiplier
            return self.windows * squared([*self.noise_multiplier, *([] if bought is None else [bought])])
        return self.windows * squared(z for t, z in self.by_iteration().items() if t in iterations)


def squared(multipliers: object) -> Fraction:
    """Returns sum 1/z^2 of noise multipliers, exactly."""
    counted = Counter(multipliers)  # type: ignore[call-overload]
    return exact_sum(count / Fraction(z) ** 2 for z, count in counted.items())


def exact_sum(terms: Iterable[Fraction]) -> Fraction:
    """Returns the sum of terms, reduced once: reducing each partial sum takes time with the square of their number."""
    sums = [(term.numerator, term.denominator) for term in terms] or [(0, 1)]
    while len(sums) > 1:
        pairs = zip(sums[::2], sums[1::2], strict=False)
        sums = [(a * d + c * b, b * d) for (a, b), (c, d) in pairs] + (sums[-1:] if len(sums) % 2 else [])
    return Fraction(*sums[0])


class Place(Closed):
    """A run on samples that was planned when the book was opened: its recipe, and what it spends."""

    run_id: _Digest
    name: str
    unit: Unit
    adjacency: Adjacency
    cost: Cost


class Opened(Closed):
    """The first line: what the runs of the book may spend together.

    Attributes:
      book: random; says which book it is, wherever it lies.
      name: as its holder calls it.
      epsilon: of all runs together, with `delta`.
      delta: of all runs together.
      unit: that of every run.
      adjacency: that of every run.
      planned: runs on samples, which count as such because they were fixed here.
      noise_multiplier: Z: the sum of 1/z^2 of all other runs stays within 1/Z^2; None: planned runs take all.
      beside: places of books over other data, for a warning where the same data are in both.
    """

    line: Literal["opened"] = "opened"
    version: Literal[1] = 1
    book: _Mark
    name: str = Field(pattern=f"^{NAME}$")
    epsilon: float = Field(ge=1e-3, le=1000)
    delta: float = Field(gt=0, lt=1)
    unit: Unit
    adjacency: Adjacency
    planned: list[Place]
    noise_multiplier: _Multiplier | None
    beside: list[str]


class Entered(Closed):
    """A run has reserved what it will spend.

    Attributes:
      entry: HMAC under the run's secret over book, recipe, data and cost: the run, and no other, finds its line again.
      run_id: hash of its resolved recipe.
      name: of its recipe.
      directory: where it lay when it entered.
      cost: what is reserved.
      planned: number of its place in the plan, from 0; None: it counts as if all units had taken part.
      salt: random.
      mark: HMAC of the data's fingerprint and the salt under the book's key; None: a stream, whose data never end.
    """

    line: Literal["entered"] = "entered"
    entry: _Digest
    run_id: _Digest
    name: str
    directory: str
    cost: Cost
    planned: int | None = Field(ge=0)
    salt: _Mark
    mark: _Digest | None


class Finished(Closed):
    """The release of a run is complete, and another run of the book may start from it.

    Attributes:
      entry: of the run.
      release: digest of the release, as `evolution.start.found.digest` has it.
    """

    line: Literal["finished"] = "finished"
    entry: _Digest
    release: _Digest


class Returned(Closed):
    """A run can spend no more; what its ledger has no line for is free again.

    Attributes:
      entry: of the run.
      iterations: that its ledger has lines for.
    """

    line: Literal["returned"] = "returned"
    entry: _Digest
    iterations: list[int]


class Beside(Closed):
    """Another book over other data, opened later."""

    line: Literal["beside"] = "beside"
    place: str


Line = Opened | Entered | Finished | Returned | Beside
_LINES: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="line")])


def line_bytes(line: Line, before: bytes) -> bytes:
    """Returns a line as it is written after the bytes that are there."""
    body = json.dumps(line.model_dump(mode="json"), allow_nan=False).encode("ascii")
    last = before[before.rfind(b"\n", 0, max(len(before) - 1, 0)) + 1 :].rstrip(b"\n")
    return _chained(body, _cut(last)[1]) + b"\n"


def parse_lines(data: bytes) -> list[Line]:
    """Returns the lines of a book.

    Raises:
      InputError: the book is damaged. The message has the number of the line.
    """
    if not data.endswith(b"\n"):
        raise _damaged(data.count(b"\n") + 1, "not whole")
    found: list[Line] = []
    chain = b""
    for number, text in enumerate(data.split(b"\n")[:-1], start=1):
        body, digest = _cut(text)
        if _chained(body, chain) != text:
            raise _damaged(number, "was changed, or lines before it were lost, changed or brought in")
        try:
            line = _LINES.validate_python(json.loads(body))
        except (ValueError, RecursionError):
            raise _damaged(number, "none that this version writes") from None
        if (number == 1) != isinstance(line, Opened):
            raise _damaged(number, "a book has one opening, its first line")
        chain = digest
        found.append(line)
    return found


_CHAIN = b', "chain": "'


def _chained(body: bytes, chain: bytes) -> bytes:
    """Returns a line with the digest of itself and of the digest of the line before it."""
    digest = hashlib.sha256(chain + b"\n" + body).hexdigest().encode("ascii")
    return body[:-1] + _CHAIN + digest + b'"}'


def _cut(text: bytes) -> tuple[bytes, bytes]:
    """Returns a line without its digest, and the digest; nothing of a line that has none."""
    head, found, tail = text.rpartition(_CHAIN)
    return (head + b"}", tail[:-2]) if found else (b"", b"")


def _damaged(number: int, what: str) -> InputError:
    return InputError(f"{BOOK}: line {number}: {what}; put the book back as it was")
