"""Builds `private/evaluation/evaluation.html`: a page with the figures, marked as no release."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from pe_beam.contracts.view import Section, View
from pe_beam.engine.run import Run
from pe_beam.evaluation.figures import shown
from pe_beam.evaluation.measure import load_nearest
from pe_beam.evaluation.pairs import Pair, closest_pairs
from pe_beam.evaluation.setting import HELD_OUT, Setting, population
from pe_beam.report import charts
from pe_beam.report.html import facts, figure, join, number, table, tag
from pe_beam.report.page import Page, render
from pe_beam.report.plain import view_of

MARK = "NOT A RELEASE"
MARK_TEXT = (
    "computed from real records without noise. It belongs in private/ and is for the holder's eyes only; choosing a "
    "run, an iteration or a setting by it is outside the privacy guarantee."
)
NAMES = {
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "Kernel distance (KID)",
    "kernel_distance_spread": "Kernel distance, spread between subsets",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
    "svc_rbf": "SVC",
    "logistic_regression": "Logistic regression",
    "knn": "5 nearest neighbours",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "auc": "AUC",
}
_CHARTS: list[tuple[str, tuple[str, ...], str]] = [
    ("Fréchet distance", ("frechet_distance",), "lower is closer"),
    ("Kernel distance (KID)", ("kernel_distance",), "lower is closer"),
    ("Precision and recall", ("precision", "recall"), "higher is better"),
    ("Density and coverage", ("density", "coverage"), "higher is better"),
    ("Accuracy on held-out", ("svc_rbf_accuracy", "logistic_regression_accuracy", "knn_accuracy"), "higher is better"),
    ("AUC on held-out", ("svc_rbf_auc", "logistic_regression_auc", "knn_auc"), "higher is better"),
]


def evaluation_page(run: Run, outcome: Mapping[str, Any]) -> bytes:
    """Returns the page as UTF-8. `outcome` is the content of evaluation.json."""
    views = (_view(run), _view(run))
    sections = [_figures(outcome), _by_iteration(outcome)]
    if outcome["series"]:
        sections.append(_series(outcome))
    sections += [_memorisation(run, outcome, views), _method(outcome)]
    page = Page(
        title=f"Evaluation of {run.recipe.name}",
        kicker="Private Evolution · quality against real records",
        hero=_hero(outcome),
        sections=sections,
        mark=MARK if run.recipe.private else f"{MARK}, NOT PRIVATE",
        mark_text=MARK_TEXT,
        # Samples and records have a view each: their pictures differ in size, and a view draws all at one size.
        css="".join(f".pair>.{side}{{{view.css()}}}\n" for side, view in zip(_SIDES, views, strict=True)) + _CSS,
    )
    return render(page)


_SIDES = ("made", "voted")
_CSS = """
.marked h1::before{content:none}
.pairs{list-style:none;margin:0 0 1.6em;padding:0;display:grid;
grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:20px}
.pairs.long{grid-template-columns:1fr}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:6px}
.pairs p{margin:6px 0 0;font-size:.85rem;color:var(--muted)}
"""


def _view(run: Run) -> View:
    return view_of(run.modality)


def name_of(key: str) -> str:
    """Returns a figure's name for people.

    >>> name_of("svc_rbf_macro_f1"), name_of("tvd_1way")
    ('SVC, macro F1', 'tvd 1way')
    """
    if key in NAMES:
        return NAMES[key]
    for model in ("svc_rbf", "logistic_regression", "knn"):
        if key.startswith(f"{model}_"):
            rest = key.removeprefix(f"{model}_")
            return f"{NAMES[model]}, {NAMES.get(rest, rest)}"
    return key.replace("_", " ")


def _hero(outcome: Mapping[str, Any]) -> Markup:
    records = outcome["records"]
    pairs = [
        ("Samples", number(records["samples"])),
        ("Held-out records", number(records["held_out"])),
        ("Training records", number(records["training"]) if records["training"] is not None else "none at hand"),
        ("Compared with", outcome["against"]),
    ]
    lead = "How close the samples come to real records that had no part in the run, and whether they copy any that had."
    return tag("p", lead, class_="lead") + facts(pairs)


def _figures(outcome: Mapping[str, Any]) -> Section:
    floor, last, ceiling = outcome["floor"]["metrics"], outcome["metrics"], outcome["ceiling"]["metrics"]
    keys = [*last, *(key for key in ceiling if key not in last)]
    rows = [[name_of(key), *(_shown(found.get(key)) for found in (floor, last, ceiling))] for key in keys]
    head = ["Figure", "Floor: first population", f"Samples: population {outcome['iteration']}", "Ceiling: real records"]
    notes = join(tag("p", note, class_="note") for note in outcome["notes"])
    return Section(
        key="figures",
        title="The figures",
        lead="Each beside its floor and its ceiling: a figure alone says little.",
        body=notes + table(head, rows, caption="Samples, the first population and real records, by the same measures"),
    )


def _shown(value: float | None) -> Markup:
    return tag("span", "–" if value is None else _figure(value), class_="n")


def _figure(value: float) -> str:
    """Formats a figure with `number`, and a small one as on the terminal."""
    return shown(value).replace("-", "−") if 0 < abs(value) < 1e-3 else number(value, 4)


def _by_iteration(outcome: Mapping[str, Any]) -> Section:
    found = outcome["iterations"]
    x = [entry["iteration"] for entry in found]
    drawn = []
    for title, keys, remark in _CHARTS:
        curves = {
            name_of(key).partition(",")[0]: [entry["metrics"][key] for entry in found]
            for key in keys
            if all(key in entry["metrics"] for entry in found)
        }
        if not curves:
            continue
        lines = [outcome["ceiling"]["metrics"].get(key) for key in keys]
        desc = f"{title} of populations {x[0]} to {x[-1]}, {remark}; the dashed lines are what real records reach."
        drawn.append(_chart(title, desc, x, curves, lines=lines, x_title="population", caption=f"{title}: {remark}."))
    more = "" if len(x) > 2 else "With --iterations all every population is measured, not the first and last alone."
    return Section(
        key="iterations",
        title="By population",
        lead="Population 0 is the first; each after it came of votes. Dashed: what real training records reach.",
        body=tag("div", join(drawn), class_="grid") + tag("p", more, class_="muted"),
    )


def _chart(
    title: str,
    desc: str,
    x: Sequence[Any],
    curves: Mapping[str, Sequence[float]],
    *,
    lines: Sequence[float | None] = (),
    x_title: str = "",
    y_title: str = "",
    caption: str,
) -> Markup:
    svg = charts.draw(_painter(x, curves, lines, x_title, y_title), title=title, desc=desc)
    rows = [[str(at), *(_shown(curve[i]) for curve in curves.values())] for i, at in enumerate(x)]
    return figure(svg, caption, data=table([x_title or "", *curves], rows, caption=title) if len(x) <= 64 else None)


def _painter(
    x: Sequence[Any], curves: Mapping[str, Sequence[float]], lines: Sequence[float | None], x_title: str, y_title: str
) -> Callable[[Any], None]:
    named = any(isinstance(at, str) for at in x)

    def paint(axes: Any) -> None:
        width = 0.8 / max(len(curves), 1)
        for i, (name, y) in enumerate(curves.items()):
            colour = charts.SERIES[i % len(charts.SERIES)]
            if named:
                axes.bar(np.arange(len(x)) + (i + 0.5) * width - 0.4, y, width * 0.92, color=colour, label=name)
            else:
                axes.plot(x, y, color=colour, label=name, marker="o" if len(x) <= 16 else None, markersize=4)
        for i, value in enumerate(lines):
            if value is not None:
                axes.axhline(value, color=charts.SERIES[i % len(charts.SERIES)], linewidth=1, linestyle=(0, (4, 3)))
        if named:
            axes.set_xticks(range(len(x)), [str(at) for at in x], rotation=30 if len(x) > 6 else 0)
        elif all(isinstance(at, int) for at in x):
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(x_title)
        axes.set_ylabel(y_title)
        axes.grid(axis="y")
        if len(curves) > 1:
            axes.legend()

    return paint


def _series(outcome: Mapping[str, Any]) -> Section:
    drawn = [
        _chart(
            series["title"],
            f"{series['title']}: {', '.join(series['y'])} over {len(series['x'])} places.",
            series["x"],
            series["y"],
            x_title=series["x_title"],
            y_title=series["y_title"],
            caption=series["title"],
        )
        for series in outcome["series"]
    ]
    return Section(key="records", title="The records themselves", body=tag("div", join(drawn), class_="grid"))


def _memorisation(run: Run, outcome: Mapping[str, Any], views: Sequence[View]) -> Section:
    found, setting = outcome["memorisation"], Setting.load(run)
    title = "Does it copy?"
    if "left_out" in found:
        body = tag("p", f"Left out: {found['left_out']}.", class_="note")
        return Section(key="memorisation", title=title, body=body)
    rows = [[f"{share:.0%}", _shown(made), _shown(real)] for share, made, real in found["quantiles"]]
    distances = {
        "samples": np.sqrt(load_nearest(run)[population(setting.last)][0]),
        "held-out": np.sqrt(load_nearest(run)[HELD_OUT][0]),
    }
    x = np.unique(np.concatenate([np.quantile(y, np.linspace(0, 1, 101)) for y in distances.values()]))
    curves = {name: (np.searchsorted(np.sort(y), x, side="right") / len(y)).tolist() for name, y in distances.items()}
    chart = _chart(
        "Distance to the nearest training record",
        "Share of samples, and of held-out records, that lie within a distance of a training record.",
        x.tolist(),
        curves,
        x_title="distance",
        y_title="share within it",
        caption="A curve of the samples to the left of the held-out one is what copying looks like.",
    )
    said = facts(
        [
            ("Closer than a held-out record, chance", _figure(found["probability_closer"])),
            ("Closer than all but 1% of held-out", f"{found['share_closer_than_1_percent']:.2%}"),
            ("Exact duplicates of a training record", number(found["exact_duplicates"])),
            ("The same among held-out records", number(found["held_out_exact_duplicates"])),
            ("p-value of being closer", f"{found['p_value']:.2g}"),
        ]
    )
    quantiles = table(["Share", "Samples", "Held-out"], rows, caption="Distances to the nearest training record")
    return Section(
        key="memorisation",
        title=title,
        lead="Each sample's nearest training record, beside the same for held-out records, which cannot be copies.",
        body=said
        + tag("div", chart + tag("div", quantiles), class_="grid wide")
        + _pairs(closest_pairs(run, setting), views),
    )


def _pairs(pairs: Sequence[Pair], views: Sequence[View]) -> Markup:
    head = tag("h3", "The closest pairs: sample, then training record")
    if not pairs:
        return head + tag("p", "Not shown: the private records cannot be read as they voted (data.path).")
    items = []
    for pair in pairs:
        shown = zip(_SIDES, views, (pair.sample, pair.record), strict=True)
        both = tag("div", join(tag("div", view.fragment(x), class_=side) for side, view, x in shown), class_="pair")
        labels = f"{pair.sample['label']} and {pair.record['label']}, " if pair.sample["label"] is not None else ""
        items.append(tag("li", both + tag("p", f"{labels}distance {_figure(pair.distance)}")))
    return head + tag("ul", join(items), class_="pairs" if views[0].tile else "pairs long")


def _method(outcome: Mapping[str, Any]) -> Section:
    limits = outcome["limits"]
    said = [
        f"Floor: {outcome['floor']['from']}. Ceiling: {outcome['ceiling']['from']}.",
        f"Rows of a kind in memory at most: {number(limits['rows_of_a_kind_in_memory'])}. Kernel distance: "
        f"{limits['kernel_subsets'][0]} subsets of {number(limits['kernel_subsets'][1])}. "
        f"Classifiers: {number(limits['classifier_train_rows'])} rows to train on at most, and "
        f"{number(limits['classifier_test_rows'])} to test on.",
        "Distances are in the space of the recipe's embedder, unless a name says another; see docs/evaluation.md.",
    ]
    return Section(key="method", title="How it was measured", body=join(tag("p", text) for text in said))
