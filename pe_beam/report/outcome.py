"""Compares the plan with the outcome, and shows the recipe of the run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup

from pe_beam.contracts.view import Section
from pe_beam.recipe.sections.evolution import Evolution
from pe_beam.report import charts
from pe_beam.report.charts import draw_twice
from pe_beam.report.html import figure, join, number, table, tag
from pe_beam.report.lineage import Lineage


def outcome_section(lineage: Lineage) -> Section:
    """Returns the section with planned and released candidates, generator calls and votes."""
    lead = "The plan was fixed before any data was read."
    if lineage.history.noisy:
        lead += " What came of it is public too: nothing here is an exact count."
    return Section(key="plan", title="Plan and outcome", lead=lead, body=join([_votes(lineage), _calls(lineage)]))


def _votes(lineage: Lineage) -> Markup:
    history = lineage.history
    rounds = history.iterations[1:]
    if not rounds:
        return Markup("")
    sums = np.array([float(history.votes(t).sum()) for t in rounds])
    spread = np.array([history.sigma(t) * math.sqrt(len(history.votes(t))) for t in rounds])
    records = history.recipe["data"]["expected_records"]
    planned = None
    if records is not None and history.privacy["unit"] == "record":
        planned = float(records * history.votes_bound * float(history.recipe["privacy"].get("sampling_rate", 1)))

    def paint(axes: Any) -> None:
        if planned is not None:
            axes.axhline(planned, color=charts.NOISE, ls=(0, (4, 3)), lw=1.3)
        axes.errorbar(rounds, sums, spread, fmt="o", ms=5, color=charts.ACCENT, elinewidth=1.3, capsize=3)
        low, high = float((sums - spread).min()), float((sums + spread).max())
        if planned is not None:
            low, high = min(low, planned), max(high, planned)
        pad = 0.1 * max(high - low, 1.0)
        axes.set(xlabel="iteration", ylabel="sum of noisy votes", xlim=(0.4, rounds[-1] + 0.6))
        axes.set_ylim(low - pad, high + pad)
        charts.whole(axes.xaxis)

    title = "Votes, planned and noisy"
    said = "no number of records was declared" if planned is None else f"{number(planned)} votes were planned"
    if history.privacy["unit"] == "client":
        said = "a client's votes have length 1 together, so their sum is not a number of records"
    desc = f"The sum of all noisy votes by iteration with one standard deviation of its noise; {said}."
    caption = (
        f"Dots: the sum of noisy votes; bars: ±σ√m, the noise in a sum over m candidates; {said}"
        + (" (dashed)." if planned is not None else ".")
        + " By chance one sum in three lies outside its bar; sums that keep off the plan mean a guess that was off."
    )
    rows = [
        [t, number(planned), float(total), f"±{number(float(width))}"]
        for t, total, width in zip(rounds, sums, spread, strict=True)
    ]
    data = table(["Iteration", "Planned votes", "Sum of noisy votes", "Noise in it"], rows, caption=title)
    svg = draw_twice(paint, title=title, desc=desc, width=820, height=280)
    return figure(svg, caption, data=data)


def _calls(lineage: Lineage) -> Markup:
    evolution = Evolution.model_validate(lineage.history.recipe["evolution"])
    sizes = evolution.populations()
    rows: list[list[object]] = []
    planned_all = made_all = 0
    for t in range(evolution.iterations + 1):
        planned = evolution.generator_calls([t])
        planned_all += planned
        if t in lineage.history.iterations:
            generation = lineage.generations[t]
            ahead = evolution.lookahead * len(lineage.generations[t - 1].ids) if t else 0
            made = int(np.count_nonzero(~generation.kept)) + ahead
            made_all += made
            rows.append([t, sizes[t], len(generation.ids), planned, made])
        else:
            rows.append([t, sizes[t], "not yet", planned, "not yet"])
    rows.append(["All", sum(sizes), sum(len(g.ids) for g in lineage.generations), planned_all, made_all])
    caption = (
        "Candidates and calls of the generator. The plan counts a kept parent as a call, so it is an upper bound; "
        "lookahead "
        "variations are counted in both; calls repeated after a failure are not part of a release"
    )
    head = ["Population", "Candidates, planned", "released", "Calls, planned", "made for the release"]
    return join([tag("h3", "Candidates and calls"), table(head, rows, caption=caption)])


class _Dumper(yaml.SafeDumper):
    """Writes lists of plain values on one line, and everything else on several lines."""


def _listed(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, list | dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


_Dumper.add_representer(list, _listed)


def recipe_section(lineage: Lineage) -> Section:
    """Returns the section with the recipe of `recipe.json`."""
    text = yaml.dump(dict(lineage.history.recipe), sort_keys=False, allow_unicode=True, width=90, Dumper=_Dumper)
    lead = (
        "All that shaped this release. With the same recipe, packages, data and secret it is made again, byte for byte."
    )
    note = (
        "Left out: where the private data lie and what their columns are called, how the run was carried out, and "
        "options "
        "that are paths, addresses or keys."
    )
    code = tag("pre", tag("code", text), tabindex="0", role="region", aria_label="The recipe as YAML", class_="recipe")
    return Section(key="recipe", title="The recipe", lead=lead, body=join([tag("p", note, class_="muted small"), code]))
