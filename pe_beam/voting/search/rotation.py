"""Rotates vectors so that a few coordinates and the norm of the rest bound an inner product, with proven errors.

Let P* have r orthonormal rows, a* = P* x' and the residual norm p* = sqrt(|x'|^2 - |a*|^2); b*, q* are those of y'.
Cauchy-Schwarz gives x'.y' <= a*.b* + p* q*. What is computed instead (u = 2^-24, v = 2^-53, G = dv / (1 - dv)):

1. P is a float64 matrix. Let e bound |P P^T - I|. The polar factor P* = (P P^T)^(-1/2) P has orthonormal rows, and
   |P - P*| <= e, because |sqrt(1 + t) - 1| <= |t|. e is the Frobenius norm in float64 plus the error of that product,
   at most 1.1 r G.
2. The float64 product P x' errs by at most G per row, so by sqrt(r) G (1 + e) |x'|. With t = e + 1.1 sqrt(r) G the
   computed coordinates are within t |x'| of a*.
3. They are rounded to float32: a is within (t + 1.01 u) |x'| of a*, apart from underflow (below 2^-126 a coordinate;
   `Frame.constant_error` has room for it). So a.b errs by at most 2.01 (t + 1.01 u) |x'||y'|: `Rotation.error`.
4. The residual's square is |x'|^2 minus the sum of squares of the float64 coordinates. It errs by at most
   (2.1 t + 4 (d + 4) v) |x'|^2. Four times t + (d + 4) v is added, and the root is rounded up to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pe_beam.contracts.search import UNIT

_ROUND = 2.0**-53
_MOST_ROWS = 4096  # of candidates that the axes are computed from
_STEP = 2048  # rows rotated at a time


@dataclass(frozen=True)
class Rotation:
    """Leading axes of the candidates. They follow from candidates alone, so they are independent of private data.

    Attributes:
      axes: float64 (r, d), P of the module's docstring.
      drift: t of the module's docstring.
    """

    axes: np.ndarray
    drift: float

    @classmethod
    def of(cls, axes: np.ndarray) -> Rotation:
        """Returns the rotation by nearly orthonormal float64 (r, d) axes, with a bound on what they lack."""
        kept, dimension = axes.shape
        product = dimension * _ROUND / (1 - dimension * _ROUND)
        unlike = float(np.linalg.norm(axes @ axes.T - np.eye(kept))) + 1.1 * kept * product
        return cls(axes, 1.01 * (unlike + 1.1 * np.sqrt(kept) * product))

    @property
    def error(self) -> float:
        """The error of a product of coordinates, as a factor of |x'||y'|."""
        return 2.02 * (self.drift + 1.02 * UNIT)

    def rotate(self, vectors: np.ndarray, norms: np.ndarray, out: np.ndarray) -> None:
        """Writes the r coordinates of float32 (n, d) rows and, behind them, an upper bound of the residual norm.

        Args:
          vectors: float32 (n, d).
          norms: float64 (n,), their norms.
          out: float32 (n, r + 1).
        """
        slack = 4 * (self.drift + (vectors.shape[1] + 4) * _ROUND)
        for start in range(0, len(vectors), _STEP):
            part = slice(start, start + _STEP)
            coordinates = vectors[part].astype(np.float64) @ self.axes.T
            squares = norms[part] ** 2
            rest = squares - np.einsum("ij,ij->i", coordinates, coordinates)
            residual = np.sqrt(np.maximum(rest, 0) + slack * squares)
            out[part, :-1] = coordinates
            out[part, -1] = np.nextafter(residual.astype(np.float32), np.float32(np.inf))


def principal_axes(vectors: np.ndarray) -> np.ndarray:
    """Returns all principal axes of float32 (m, d) rows by falling variance: float64 (d, d), nearly orthonormal rows.

    At most 4,096 evenly spaced rows are used. They need not be exact: any axes give a bound, good ones a narrow one.
    """
    some = vectors[:: -(-len(vectors) // _MOST_ROWS)].astype(np.float64)
    scale = np.abs(some).max()
    if scale > 0:
        some /= scale
    _, axes = np.linalg.eigh(some.T @ some)
    return np.ascontiguousarray(axes[:, ::-1].T)
