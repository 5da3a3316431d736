"""Numbers and previews of an iteration, from its release alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pe_beam.releases.reading import OWN_COLUMNS, Release

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = 64
ROWS = 8


def figures(release: Release) -> dict[str, float]:
    """Returns what is said of the newest iteration, by name.

    `candidates`; `epsilon_spent`, of the run so far; and from iteration 1 on of its noisy histogram `votes/total`,
    `votes/largest`, `votes/above_threshold` (share of the candidates that passed, where there is a threshold) and
    `votes/labels_that_fell_back` (labels of which none passed). Votes are noisy, in votes.
    """
    iteration = release.iteration
    manifest, privacy = release.manifest(iteration), release.privacy
    found: dict[str, float] = {"candidates": float(sum(manifest["candidates"].values()))}
    if privacy is not None and math.isfinite(privacy["spent_epsilon"]):
        found["epsilon_spent"] = privacy["spent_epsilon"]
    if iteration:
        votes = release.histogram(iteration)
        noisy = votes["noisy_votes"]
        found |= {"votes/total": pc.sum(noisy).as_py(), "votes/largest": pc.max(noisy).as_py()}
        least = manifest["selection"]["threshold"]
        wanted = [least.get(label or "") for label in votes["label"].to_pylist()]
        if wanted and None not in wanted:
            passed = sum(vote >= bound for vote, bound in zip(noisy.to_pylist(), wanted, strict=True))
            found["votes/above_threshold"] = passed / len(wanted)
        found["votes/labels_that_fell_back"] = float(len(manifest["selection"].get("fallback", {})))
    return found


def sheet(release: Release) -> Image | None:
    """Returns the first pictures of the newest population on one sheet; None if its records are no pictures."""
    from PIL import Image

    from pe_beam.releases.frames import to_images

    table = release.population(release.iteration)
    if "image" not in table.column_names:
        return None
    pictures = [picture.convert("RGB") for picture in to_images(table.slice(0, PICTURES))]
    across = math.ceil(math.sqrt(len(pictures)))
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    found = Image.new("RGB", (across * width, math.ceil(len(pictures) / across) * height), "white")
    for place, picture in enumerate(pictures):
        found.paste(picture, (place % across * width, place // across * height))
    return found


def rows(release: Release) -> list[str]:
    """Returns the first records of the newest population as texts, without pictures."""
    table = release.population(release.iteration).slice(0, ROWS)
    shown = table.select([name for name in table.column_names if name not in (*OWN_COLUMNS, "image")])
    return [
        "; ".join(f"{key}: {value}" for key, value in row.items() if value is not None) for row in shown.to_pylist()
    ]
