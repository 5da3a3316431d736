"""Compares samples with real pictures in spaces other than the recipe's: FID, KID, precision, recall and more."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured, Series
from pe_beam.metrics.distances import frechet_of_vectors, kernel_distance
from pe_beam.metrics.manifold import DENSITY_K, PRECISION_K, compare_manifolds, neighbour_radii
from pe_beam.metrics.memorisation import memorisation, nearest_in
from pe_beam.modalities.image.metrics.options import space_embedder, space_sections
from pe_beam.subsamples import chosen_rows

LABEL_ROWS = 50
"""Fewest pictures of a label on each side for a Fréchet distance within the label. With fewer, it says little."""
USUAL_ROWS = 10_000
"""Fewest pictures on each side of published Fréchet distances."""
_KEPT = 8  # last used feature tables that a process keeps: held-out records return for each population


@dataclass(frozen=True)
class Placed:
    """Pictures in a space: vectors, float32 (n, d); labels, one each or None; rejected, faults of other pictures."""

    vectors: np.ndarray
    labels: Sequence[str | None]
    rejected: Sequence[str] = ()

    def some(self, most: int) -> Placed:
        """Returns at most `most` pictures, the same on every machine."""
        rows = chosen_rows(len(self.vectors), most, "ceiling")
        return Placed(self.vectors[rows], [self.labels[row] for row in rows.tolist()], self.rejected)


def other_spaces(comparison: Comparison) -> Measured:
    """Returns figures of every space that `evaluate --set` names. The name of a figure ends in the space's name.

    Raises:
      InputError: an embedder cannot be loaded.
      MissingExtraError: a package is not installed.
    """
    figures: dict[str, float] = {}
    series: list[Series] = []
    notes: list[str] = []
    for name, section in space_sections(comparison.options).items():
        found = _measured(name, section, comparison)
        figures |= {f"{key}_{name}": value for key, value in found.figures.items()}
        series += found.series
        notes += found.notes
    return Measured(figures=figures, series=series, notes=notes)


def _measured(name: str, section: Mapping[str, Any], comparison: Comparison) -> Measured:
    samples = embedded(name, section, comparison.samples)
    held_out = embedded(name, section, comparison.held_out)
    if comparison.iteration is None and comparison.sample_count:  # a ceiling of as many as there are samples
        samples = samples.some(comparison.sample_count)
    notes = _faults(name, {"samples": samples, "held-out": held_out})
    if min(len(samples.vectors), len(held_out.vectors)) < 2:
        return Measured(figures={}, notes=[*notes, f"{name}: left out; it wants 2 pictures on each side"])
    figures = _distances(samples.vectors, held_out.vectors)
    within, counted = class_frechet(samples, held_out)
    if within is not None:
        figures["class_fid"] = within
    if comparison.labels and counted < len(comparison.labels):
        notes.append(
            f"class_fid_{name}: of {counted} of {len(comparison.labels)} labels, for the others have fewer than "
            f"{LABEL_ROWS} pictures on one side"
        )
    few = min(len(samples.vectors), len(held_out.vectors))
    if few < USUAL_ROWS:
        notes.append(
            f"fid_{name}: of {len(samples.vectors):,} and {len(held_out.vectors):,} pictures; it falls with their "
            f"number, and published ones are of {USUAL_ROWS:,} at least. kid_{name} does not depend on it"
        )
    series: list[Series] = []
    if comparison.training is not None and comparison.iteration:
        training = embedded(name, section, comparison.training)
        if len(training.vectors):
            figures |= _copied(samples.vectors, held_out.vectors, training.vectors, name, series)
    return Measured(figures=figures, series=series, notes=notes)


def _faults(name: str, sides: Mapping[str, Placed]) -> list[str]:
    return [
        f"{name}: {len(side.rejected)} {kind} pictures are left out ({'; '.join(sorted(set(side.rejected)))})"
        for kind, side in sides.items()
        if side.rejected
    ]


def _distances(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    kid, spread = kernel_distance(made, real)
    manifold = compare_manifolds(made, real, real_radii=neighbour_radii(real, [PRECISION_K, DENSITY_K]))
    return {
        "fid": frechet_of_vectors(made, real),
        "kid": kid,
        "kid_spread": spread,
        "precision": manifold.precision,
        "recall": manifold.recall,
        "density": manifold.density,
        "coverage": manifold.coverage,
    }


def class_frechet(made: Placed, real: Placed) -> tuple[float | None, int]:
    """Returns the mean over labels of the Fréchet distance within a label, and the number of these labels.

    The mean is the intra-FID (Miyato and Koyama 2018). Labels with fewer than `LABEL_ROWS` pictures on a side are left
    out. The mean is None if all labels are.
    """
    own, others = np.array(made.labels, dtype=object), np.array(real.labels, dtype=object)
    found = []
    for label in sorted({label for label in made.labels if label is not None}):
        pair = made.vectors[own == label], real.vectors[others == label]
        if min(map(len, pair)) >= LABEL_ROWS:
            found.append(frechet_of_vectors(*pair))
    return (float(np.mean(found)), len(found)) if found else (None, 0)


def _copied(
    made: np.ndarray, real: np.ndarray, training: np.ndarray, name: str, series: list[Series]
) -> dict[str, float]:
    """Compares distances to the nearest training picture of samples and of held-out pictures, which are no copies."""
    near = {"samples": nearest_in(made, training, 0)[0], "held-out": nearest_in(real, training, 0)[0]}
    found = memorisation(near["samples"], near["held-out"])
    distances = {side: np.sort(np.sqrt(squared)) for side, squared in near.items()}
    x = np.unique(np.concatenate([np.quantile(own, np.linspace(0, 1, 51)) for own in distances.values()]))
    series.append(
        Series(
            title=f"Distance to the nearest training picture, {name}",
            x=x.tolist(),
            y={side: (np.searchsorted(own, x, side="right") / len(own)).tolist() for side, own in distances.items()},
            x_title="distance",
            y_title="share within it",
        )
    )
    return {
        "exact_duplicates": found["exact_duplicates"],
        "held_out_exact_duplicates": found["held_out_exact_duplicates"],
        "share_closer_than_1_percent": found["share_closer_than_1_percent"],
        "probability_closer": found["probability_closer"],
    }


_FEATURES: OrderedDict[tuple[str, str], Placed] = OrderedDict()
_EMBEDDING = threading.Lock()


def embedded(name: str, section: Mapping[str, Any], table: pa.Table) -> Placed:
    """Returns pictures in a space, as features that are not normalised. A process keeps those of a few tables."""
    pictures = table["image"].to_pylist()
    sums = hashlib.sha256()
    for picture, label in zip(pictures, table["label"].to_pylist(), strict=True):
        sums.update(hashlib.sha256(picture).digest() + hashlib.sha256((label or "").encode()).digest())
    key = (json.dumps(section, sort_keys=True), sums.hexdigest())
    with _EMBEDDING:
        if key not in _FEATURES:
            found = space_embedder(name, section).embed(table.select(["image"]))
            good = [row for row in range(table.num_rows) if row not in found.faults]
            labels = table["label"].to_pylist()
            kinds = [found.faults[row].kind for row in sorted(found.faults)]
            _FEATURES[key] = Placed(found.vectors[good], [labels[row] for row in good], kinds)
            while len(_FEATURES) > _KEPT:
                _FEATURES.popitem(last=False)
        _FEATURES.move_to_end(key)
        return _FEATURES[key]
