"""What tables_peers.py has found, told: medians over seeds, tables in Markdown, a picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]

TABLES = ("adult", "breast-cancer", "health-insurance", "diamonds", "light-chains", "parity3", "parity5")
METHODS = {"ours": "ours", "mst": "MST", "aim": "AIM"}
FIGURES = ("tvd1", "tvd2", "auc", "accuracy", "distinct", "seconds", "megabytes", "load")
_TITLES = {"tvd1": "TVD 1-way", "tvd2": "TVD 2-way", "auc": "AUC", "accuracy": "accuracy", "distinct": "distinct"}
_LEAST = ("tvd1", "tvd2")  # what is best if it is least
_DRAWN = ("tvd1", "tvd2", "auc")
_BUSY = 1.6  # load beside which seconds say little: a method alone has about 1
_COLOURS = {"ours": "#0f766e", "mst": "#b45309", "aim": "#7c3aed"}
_INK, _PAPER = "#1f2937", "#ffffff"


def medians(found: Sequence[Row]) -> list[Row]:
    """Returns medians over seeds by table, number of samples, epsilon and method; real rows come last."""
    names = ("table", "kind", "epsilon", "method")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for each in found:
        groups.setdefault(tuple(each[name] for name in names), []).append(each)
    rows = []
    for own in groups.values():
        figures = {name: median(each[name] for each in own) for name in FIGURES if name in own[0]}
        rows.append({name: own[0][name] for name in (*names, "samples")} | {"seeds": len(own)} | figures)
    order = [*METHODS, "real"]
    return sorted(
        rows,
        key=lambda each: (
            each["kind"] != "usual",
            TABLES.index(each["table"]),
            each["epsilon"] or math.inf,
            order.index(each["method"]),
        ),
    )


def tell(rows: Sequence[Row]) -> None:
    """Prints medians as two tables: what the samples are worth, and what they took. A cell has all methods."""
    print(f"\nCells: {' / '.join(METHODS.values())}; the best in bold.\n")
    print(f"| table, samples | epsilon | {' | '.join(_TITLES.values())} |\n|{'---|' * (len(_TITLES) + 2)}")
    for (table, samples, epsilon), own in _lines(rows):
        cells = [_best(own, what) for what in _TITLES]
        print(f"| {table}, {samples:,} | {'real rows' if epsilon is None else f'{epsilon:g}'} | {' | '.join(cells)} |")
    print("\nThe same; seconds of a busy machine in brackets.\n")
    print("| table, samples | epsilon | seconds | megabytes | seeds |\n|---|---|---|---|---|")
    for (table, samples, epsilon), own in _lines(rows):
        if epsilon is not None:
            told = {
                name: [_cost(own.get(method), name) for method in METHODS] for name in ("seconds", "megabytes", "seeds")
            }
            print(f"| {table}, {samples:,} | {epsilon:g} | {' | '.join(' / '.join(each) for each in told.values())} |")


def _lines(rows: Sequence[Row]) -> list[tuple[tuple[str, int, float | None], dict[str, Row]]]:
    """Table, usual number of samples and epsilon, with the rows of the methods."""
    groups: dict[tuple[str, str, float | None], dict[str, Row]] = {}
    for each in rows:
        groups.setdefault((each["table"], each["kind"], each["epsilon"]), {})[each["method"]] = each
    return [((at[0], max(each["samples"] for each in own.values()), at[2]), own) for at, own in groups.items()]


def _best(own: dict[str, Row], what: str) -> str:
    """One figure of all methods, the best ones in bold."""
    if "real" in own:
        return _figure(own["real"][what])
    told = [_figure(own[method][what]) if method in own else "" for method in METHODS]
    best = (min if what in _LEAST else max)(filter(None, told), key=float)
    shown = [f"**{each}**" if each == best and what != "distinct" else each for each in told]
    return " / ".join(each or "–" for each in shown)


def _figure(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _cost(row: Row | None, name: str) -> str:
    """What a method took; seconds beside other work are in brackets."""
    if row is None:
        return "–"
    told = f"{row[name]:,.0f}"
    return f"({told})" if name == "seconds" and row["load"] > _BUSY else told


def draw(rows: Sequence[Row], path: str) -> None:
    """One picture, on a white ground: figures of the usual number of samples against epsilon, a column a table."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "pe_beam"
    usual = [each for each in rows if each["kind"] == "usual"]
    tables = list(dict.fromkeys(each["table"] for each in usual))
    size = (2.1 * len(tables) + 0.5, 2 * len(_DRAWN) + 0.5)
    figure, axes = plt.subplots(
        len(_DRAWN), len(tables), figsize=size, squeeze=False, layout="constrained", facecolor=_PAPER
    )
    for (line, what), (column, table) in itertools.product(enumerate(_DRAWN), enumerate(tables)):
        _panel(axes[line][column], [each for each in usual if each["table"] == table], what)
        axes[line][column].set_title("" if line else table, fontsize=10)
        axes[line][column].set_ylabel("" if column else _TITLES[what])
        axes[line][column].set_xlabel("epsilon" if line == len(_DRAWN) - 1 else "")
    handles = {name: line for axis in axes.flat for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None, dpi=110)
    print(f"{path}: drawn")


def _panel(axis: Any, rows: Sequence[Row], what: str) -> None:
    """One figure of one table."""
    for method, name in METHODS.items():
        own = [each for each in rows if each["method"] == method]
        if own:
            places, values = zip(*((each["epsilon"], each[what]) for each in own), strict=True)
            axis.plot(places, values, "o-", ms=4, color=_COLOURS[method], label=name)
    for real in (each for each in rows if each["method"] == "real"):
        axis.axhline(real[what], color=_INK, linestyle=":", label="as many real rows")
    at = sorted({each["epsilon"] for each in rows if each["epsilon"] is not None})
    axis.set_xscale("log")
    axis.set_xticks(at, [f"{epsilon:g}" for epsilon in at])
    axis.minorticks_off()
    axis.grid(alpha=0.25, color=_INK)
    if what in _LEAST:
        axis.set_ylim(bottom=0)
