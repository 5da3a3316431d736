"""Draws what votes cost against the number of records, from files that votes.py and vote_stage.py have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_REFERENCE = {"faiss": 2.9, "torch": 4.7, "scikit-learn": 195.0}
"""Seconds of the reference library's back ends on 100,000 x 10,000 x 384, on another machine (docs/performance.md)."""
_INK, _OURS, _ALONE, _THEIRS, _PAPER = "#1f2937", "#0f766e", "#6366f1", "#b45309", "#ffffff"


def draw(files: list[Path], target: Path) -> None:
    """One picture, on a white ground so that it is read on a dark page as well."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "pe_beam"
    figure, axes = plt.subplots(figsize=(8, 4.6), facecolor=_PAPER)
    held = [json.loads(file.read_text()) for file in files]
    for each in held:
        if each["what"] == "scaling":
            _scaling(axes, each["rows"])
    staged = [row for each in held if each["what"] == "vote stage" for row in each["rows"]]
    if staged:
        _staged(axes, staged)
    _yelp(axes, [row for each in held if each["what"] == "yelp" for row in each["rows"] if row["what"] == "stage"])
    for (name, seconds), mark in zip(_REFERENCE.items(), "sv^", strict=True):
        label = f"reference, {name}, 10,000 x 384 (another machine)"
        axes.plot([100_000], [seconds], mark, color=_THEIRS, fillstyle="none", label=label)
    axes.set(xscale="log", yscale="log", xlabel="private records", ylabel="seconds a round, by the clock")
    axes.grid(alpha=0.25, color=_INK)
    axes.legend(fontsize=7, loc="upper left")
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
    print(f"{target}: {len(files)} files drawn")


def _scaling(axes: Any, rows: list[dict[str, Any]]) -> None:
    """The vote alone, at the largest size of the others."""
    top = max(rows, key=lambda row: (row["records"], row["candidates"], row["dimension"]))
    sizes = ("candidates", "dimension", "labels")
    same = [
        row for row in rows if not row["workers"] and all(row[name] == {**top, "labels": 1}[name] for name in sizes)
    ]
    same.sort(key=lambda row: row["records"])
    name = f"pe_beam, the vote alone, {top['candidates']:,} x {top['dimension']}"
    axes.plot([row["records"] for row in same], [row["seconds"] for row in same], "o--", color=_OURS, label=name)


def _staged(axes: Any, rows: list[dict[str, Any]]) -> None:
    """The whole stage of one process, and faiss alone with the arrays in memory."""
    for what, color, mark, name in (
        ("stage", _OURS, "o-", "pe_beam, whole stage, exact"),
        ("faiss", _ALONE, "o:", "faiss IndexFlatL2 alone, same machine"),
    ):
        own = sorted(
            (row["records"], row["seconds"])
            for row in rows
            if row["what"] == what and row["workers"] == 1 and row["engine"] in ("", "int8")
        )
        size = f"{rows[0]['candidates']:,} x {rows[0]['dimension']}"
        axes.plot(*zip(*own, strict=True), mark, color=color, label=f"{name}, {size}")


def _yelp(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Rounds of Yelp's shape, as they were measured, and the published one."""
    for row in rows[:1]:
        size = f"{row['candidates']:,} x {row['dimension']}"
        name = f"pe_beam, whole stage, exact, Yelp's shape, {size}"
        axes.plot([each["records"] for each in rows], [each["seconds"] for each in rows], "D-", color=_OURS, label=name)
        records = max(each["records"] for each in rows)
        axes.plot([records], [row["published"]], "*", ms=12, color=_THEIRS, label=f"published round, Yelp, {size}")
