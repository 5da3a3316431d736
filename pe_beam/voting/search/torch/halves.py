"""Rounds scaled vectors to a number format, and measures what that takes away, rounded up."""

from __future__ import annotations

import torch

from pe_beam.voting.search.torch.precision import Precision

_LOST = 2.0**-50
"""More than what underflow takes from a norm: sqrt(d) 2^-126 by scaling, and sqrt(d) 2^-63 by squaring."""


def container(precision: Precision) -> torch.dtype:
    """Returns the type that holds numbers of this format."""
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision.name, torch.float32)


def rounded(values: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Returns float32 or float64 values rounded to the format, in their own type. Sizes below `kept` become 0."""
    if precision.name == "tf32":
        bits = values.to(torch.float32).view(torch.int32)
        bits = bits + 0xFFF + ((bits >> 13) & 1)  # to nearest, ties to even, of the 13 bits that are cut
        result = (bits & ~0x1FFF).view(torch.float32).to(values.dtype)
    else:
        result = values.to(container(precision)).to(values.dtype)
    return torch.where(result.abs() < precision.kept, 0, result)


def raised(values: torch.Tensor, precision: Precision) -> torch.Tensor:
    """Returns float32 numbers of the format that are at least `values`, 0 or more. The least of them is `kept`."""
    wanted = values.to(torch.float32).clamp_min(precision.kept) * precision.raise_by
    return rounded(wanted, precision)


def norms_up(vectors: torch.Tensor) -> torch.Tensor:
    """Returns upper bounds of the norms of float32 (n, d) rows: float32 (n,).

    A float32 sum of d squares is wrong by (d + 2) u of itself, and by underflow of a square, 2^-126 each.
    """
    norms = torch.linalg.vector_norm(vectors, dim=1)
    return norms * (1 + (vectors.shape[1] + 8) * 2.0**-22) + _LOST


def halve(
    vectors: torch.Tensor, scales: torch.Tensor | float, precision: Precision, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and rounds vectors into `out`.

    Args:
      vectors: float32 (n, d).
      scales: powers of two: float32 (n, 1), or one for all.
      precision: format of the result.
      out: (n, d) of the format's container.

    Returns:
      Upper bounds of the norms of the rounded vectors, and of what rounding took away: float32 (n,) each.
    """
    scaled = vectors * scales
    kept = rounded(scaled, precision)
    out.copy_(kept)
    # The difference is exact: both numbers are multiples of the last bit of the scaled one, and it is smaller.
    return norms_up(kept), norms_up(scaled.sub_(kept))


def split(values: torch.Tensor, parts: int, precision: Precision) -> torch.Tensor:
    """Returns float64 (n,) values as a sum of `parts` numbers of the format: float64 (n, parts)."""
    rest, found = values.clone(), []
    for _ in range(parts):
        found.append(rounded(rest, precision))
        rest -= found[-1]
    return torch.stack(found, dim=1)
