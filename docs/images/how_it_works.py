"""Draws how-it-works.png from a digits run's release alone: python docs/images/how_it_works.py RUN_DIR."""

import io
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

LABEL, SHOWN, INK, GOOD, PALE, WARM = "3", 6, "#1f2937", "#0f766e", "#cbd5e1", "#92400e"


def main() -> None:
    """Three panels from left to right, for one label."""
    release, here = Path(sys.argv[1], "release"), Path(__file__).parent
    votes = {row["candidate_id"]: row["noisy_votes"] for row in _rows(release / "iteration=0001/histogram")}
    manifest = json.loads((release / "iteration=0001/manifest.json").read_text())
    threshold = manifest["selection"]["threshold"][LABEL]
    first = _rows(release / "iteration=0000/population/part-00000.parquet")
    first = [row for row in first if votes[row["candidate_id"]] != 0][3 : 3 + SHOWN]
    after = _rows(release / "iteration=0001/population/part-00000.parquet")
    last = [row["image"] for row in _rows(release / "samples.parquet")]
    figure = plt.figure(figsize=(12, 5.2), dpi=130)
    panels = [figure.add_axes((x, 0.03, width, 0.62)) for x, width in ((0.03, 0.36), (0.43, 0.24), (0.71, 0.27))]
    titles = [
        "1  Each private record votes for the\n    nearest candidate; noise is added",
        "2  Winners are varied by a\n    public generator",
        "3  Again and again; the last\n    ones are the release",
    ]
    for panel, title in zip(panels, titles, strict=True):
        figure.text(panel.get_position().x0, 0.72, title, fontsize=12, color=INK, fontweight="bold")
        panel.axis("off")
    _votes(panels[0], first, [votes[row["candidate_id"]] for row in first], threshold)
    _families(panels[1], first, [votes[row["candidate_id"]] > threshold for row in first], after)
    _mosaic(panels[2], last[:: max(1, len(last) // 36)][:36])
    _headline(figure)
    figure.savefig(here / "how-it-works.png", facecolor="white", metadata={"Software": None})


def _rows(path: Path) -> list[dict]:
    return [row for row in pq.read_table(path).to_pylist() if row["label"] == LABEL]


def _picture(panel: Axes, data: bytes, x: float, y: float, size: float = 0.9) -> None:
    image = 255 - np.asarray(Image.open(io.BytesIO(data)))
    panel.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(x, x + size, y, y + size), zorder=2)


def _votes(panel: Axes, candidates: list[dict], heights: list[float], threshold: float) -> None:
    """A candidate and its bar a row. Bars are scaled to 4 units; the band is one standard deviation of the noise."""
    scale, middle = 2.4 / max(map(abs, heights)), 3.4
    edge = threshold * scale
    panel.add_patch(Rectangle((middle - edge, -0.1), 2 * edge, SHOWN + 0.1, color="#fef3c7", zorder=0))
    panel.plot([middle, middle], [-0.1, SHOWN], color=INK, lw=0.8)
    panel.plot([middle + edge] * 2, [-0.1, SHOWN], color="#b45309", lw=1.4, zorder=3)
    panel.text(middle + edge, SHOWN + 0.08, "threshold", color="#b45309", fontsize=9.5, ha="center")
    panel.text(middle - edge, SHOWN + 0.08, "noise alone", color=WARM, fontsize=9.5, ha="center")
    for place, (candidate, height) in enumerate(zip(candidates, heights, strict=True)):
        y = SHOWN - 1 - place
        _picture(panel, candidate["image"], 0, y)
        colour = GOOD if height > threshold else PALE
        panel.barh(y + 0.45, height * scale, left=middle, height=0.5, color=colour, zorder=2)
    panel.set(xlim=(0, 6), ylim=(-0.1, SHOWN + 0.5), aspect="equal")


def _families(panel: Axes, candidates: list[dict], won: list[bool], after: list[dict]) -> None:
    for place, parent in enumerate(candidates):
        y = SHOWN - 1 - place
        children = [row["image"] for row in after if row["parent_id"] == parent["candidate_id"]][:3]
        if not won[place] or not children:
            continue
        panel.annotate("", (0.9, y + 0.45), (0, y + 0.45), arrowprops={"arrowstyle": "->", "color": GOOD, "lw": 2})
        for column, data in enumerate(children):
            _picture(panel, data, 1.1 + column, y)
    panel.set(xlim=(0, 4), ylim=(-0.1, SHOWN + 0.5), aspect="equal", anchor="W")


def _mosaic(panel: Axes, images: list[bytes]) -> None:
    for place, data in enumerate(images):
        _picture(panel, data, place % 6, SHOWN - 1 - place // 6)
    panel.set(xlim=(0, 6), ylim=(-0.1, SHOWN + 0.5), aspect="equal", anchor="W")


def _headline(figure: Figure) -> None:
    figure.text(0.03, 0.92, "Private records stay where they are", fontsize=17, color=INK, fontweight="bold")
    what = "All that is ever computed from them: how many are nearest to each candidate, and that with noise."
    figure.text(0.03, 0.865, what, fontsize=11.5, color="#475569")


if __name__ == "__main__":
    main()
