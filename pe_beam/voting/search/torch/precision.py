"""The number formats that matrix units multiply, and what a product of such numbers may be wrong by."""

from __future__ import annotations

from dataclasses import dataclass

from pe_beam.contracts.search import UNIT

_FUSED = 1.5 * 2.0**-23
"""Error of a matrix unit for each term, relative to the sum of the terms' sizes.

A step adds b >= 4 exact products to an accumulator: the addends are cut to 24 bits of the largest one, and the sum is
cut to 24 bits. That is at most (b + 2) 2^-23 of the sum of sizes for b terms, so (1 + 2/b) 2^-23 for each term. A
sequence or tree of IEEE additions, in any rounding mode, is below that: at most 2^-23 for each term.
"""
_CONVENTIONAL = 1.5 * UNIT
"""The same for IEEE float32 that rounds to nearest: u for each term (Higham 2002, section 3.1); a half to spare."""


@dataclass(frozen=True)
class Precision:
    """A number format of the two sides of a product, and of its result.

    Attributes:
      name: name of the format.
      bits: significand bits, with the hidden one.
      kept: smallest size that is kept. Smaller numbers are set to zero, and the bound counts them: some units flush
        subnormal numbers.
      rounding: relative error of a result after accumulation; 0 if results are float32.
      step: absolute error of a result after accumulation: a unit may flush a subnormal one.
      span: candidates of one group have norms within a factor of 2^span, so that none loses its bits to another.
      term: error of the accumulator for each term, relative to the sum of the terms' sizes.
    """

    name: str
    bits: int
    kept: float
    rounding: float
    step: float
    span: int
    term: float

    def sum_error(self, length: int) -> float:
        """Returns G: the error of a sum of `length` terms, relative to the sum of their sizes.

        >>> FLOAT16.sum_error(1000) < 1.52e3 * 2**-23
        True
        """
        error = self.term * length
        if error > 0.01:
            raise ValueError(f"length: at most {int(0.01 / self.term):,} terms are possible; got {length:,}")
        return error / (1 - error)

    def wide(self) -> Precision:
        """Returns this format with results in float32."""
        return Precision(self.name, self.bits, self.kept, 0.0, 0.0, self.span, self.term)

    @property
    def least(self) -> float:
        """What products of shifted queries exceed if they may win. It is small, and above what a unit flushes."""
        return max(2 * self.step, 2.0**-60)

    @property
    def raise_by(self) -> float:
        """The factor after which rounding to the format cannot fall below the number."""
        return 1 + 2.0 ** (1 - self.bits) * 1.01


FLOAT16 = Precision("float16", 11, 2.0**-14, 1.001 * 2.0**-11, 2.0**-14, 6, _FUSED)
BFLOAT16 = Precision("bfloat16", 8, 2.0**-126, 1.01 * 2.0**-8, 2.0**-126, 20, _FUSED)
TF32 = Precision("tf32", 11, 2.0**-126, 0.0, 0.0, 20, _FUSED)
FLOAT32 = Precision("float32", 24, 2.0**-126, 0.0, 0.0, 20, _CONVENTIONAL)
