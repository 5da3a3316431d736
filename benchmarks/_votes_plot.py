"""Draws what votes cost against the number of records, from files that votes.py has written."""

from __future__ import annotations

import json
from pathlib import Path

_REFERENCE = {"faiss": 2.9, "torch": 4.7, "scikit-learn": 195.0}
"""Seconds of the reference library's back ends on 100,000 x 10,000 x 384, on another machine (docs/performance.md)."""
_INK, _OURS, _THEIRS, _PAPER = "#1f2937", "#0f766e", "#b45309", "#ffffff"


def draw(files: list[Path], target: Path) -> None:
    """One picture, on a white ground so that it is read on a dark page as well."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "pe_beam"
    figure, axes = plt.subplots(figsize=(8, 4.6), facecolor=_PAPER)
    for file in files:
        held = json.loads(file.read_text())
        rows = held["rows"]
        if held["what"] == "scaling":
            top = max(rows, key=lambda row: (row["records"], row["candidates"], row["dimension"]))
            same = [
                row
                for row in rows
                if row["labels"] == 1
                and not row["workers"]
                and (row["candidates"], row["dimension"]) == (top["candidates"], top["dimension"])
            ]
            same.sort(key=lambda row: row["records"])
            name = f"pe_beam, exact, {top['candidates']:,} x {top['dimension']} (measured)"
            axes.plot([r["records"] for r in same], [r["cpu"] for r in same], "o-", color=_OURS, label=name)
        if held["what"] == "yelp":
            (stage,) = (row for row in rows if row["what"] == "stage")
            records = stage["records"] * stage["whole"] / stage["seconds"]
            size = f"{stage['candidates']:,} x {stage['dimension']}"
            name = f"pe_beam, whole stage, {size} (estimated from {stage['records']:,} records)"
            axes.plot([records], [stage["cpu"] * stage["whole"] / stage["seconds"]], "D", color=_OURS, label=name)
            axes.plot(
                [records], [stage["published"]], "*", ms=12, color=_THEIRS, label=f"published round, Yelp, {size}"
            )
    for (name, seconds), mark in zip(_REFERENCE.items(), "sv^", strict=True):
        label = f"reference, {name}, 10,000 x 384 (another machine)"
        axes.plot([100_000], [seconds], mark, color=_THEIRS, fillstyle="none", label=label)
    axes.set(xscale="log", yscale="log", xlabel="private records", ylabel="seconds a round (pe_beam: of processor)")
    axes.grid(alpha=0.25, color=_INK)
    axes.legend(fontsize=7, loc="upper left")
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    print(f"{target}: {len(files)} files drawn")
