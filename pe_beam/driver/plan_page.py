"""A plan as one HTML file: what is recommended, the chart of epsilon against iterations and candidates, and errors."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pe_beam.contracts.view import Section
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.outlook import Outlook
from pe_beam.recipe.plan import Plan
from pe_beam.recipe.trade import Trade
from pe_beam.report import charts
from pe_beam.report import page as pages
from pe_beam.report.html import facts, figure, join, number, table, tag
from pe_beam.wording import counted

_TICKS = [digit * 10.0**power for power in range(-4, 4) for digit in (1, 3)]


def page_of(recipe: Recipe, plan: Plan, ahead: Outlook) -> bytes:
    """Returns the page, self-contained. Equal plans give equal bytes."""
    notes = join(tag("p", each, class_="note") for each in [*plan.notes, *plan.warnings])
    lead = "What this recipe will spend, and what its votes will be worth. No data were read."
    reason = [] if ahead.advice is None else [tag("p", f"{ahead.recommended()}: {ahead.advice.reason}.")]
    hero = tag(
        "div",
        join([tag("p", lead, class_="lead"), facts(_facts(recipe, plan)), *reason, notes]),
        class_="words",
    )
    sections = []
    if ahead.trade is not None:
        sections.append(Section(key="trade", title="Iterations and candidates", body=_trade(ahead.trade)))
    if ahead.measured:
        sections.append(Section(key="measured", title="What is measured", body=_measured(ahead.measured)))
    return pages.render(
        pages.Page(
            title=recipe.name,
            kicker="Plan, before a run",
            hero=hero,
            sections=sections,
            css=pages.script("report.css"),
        )
    )


def _facts(recipe: Recipe, plan: Plan) -> list[tuple[object, object]]:
    signal = plan.votes_over_sigma
    return [
        ("Epsilon, delta", f"{plan.epsilon:.4g}, {plan.delta:g}"),
        ("Iterations", number(recipe.evolution.iterations, 0)),
        ("Candidates", number(plan.candidates[0], 0)),
        ("Samples", number(recipe.evolution.samples, 0)),
        ("Sigma, in votes", f"{plan.schedule.sigmas[0]:.4g}"),
        ("Votes a candidate over sigma", "unknown" if signal is None else f"{signal[0]:.2g}"),
    ]


def _trade(trade: Trade) -> Markup:
    turns, size, budget = trade.chosen

    def paint(axes: Any) -> None:
        for place, own in enumerate(trade.populations):
            values = [row[place] for row in trade.epsilon]
            axes.plot(trade.iterations, values, color=charts.SERIES[place], marker="o", markersize=3, label=f"{own:,}")
        axes.axhline(budget, color=charts.NOISE, linestyle="--", label=f"epsilon {budget:.4g}")
        needed = trade.epsilon[trade.iterations.index(turns)][trade.populations.index(size)]
        axes.plot([turns], [needed], color=charts.INK, marker="D", markersize=6, linestyle="", label="this plan")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(trade.iterations, [str(each) for each in trade.iterations])
        low, high = axes.get_ylim()
        ticks = [tick for tick in _TICKS if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("iterations")
        axes.set_ylabel("epsilon")
        axes.figure.legend(title="candidates", loc="outside upper center", ncols=4)

    said = (
        f"The epsilon at which a candidate's expected votes are {trade.votes_over_sigma:g} of sigma, by iterations, a "
        "line for each number of candidates. What lies below the dashed line is within this plan's budget."
    )
    picture = charts.draw_twice(paint, title="Epsilon against iterations", desc=said, width=720, height=380)
    heads = ["iterations", *(counted(f"{own:,}", "candidate") for own in trade.populations)]
    rows = [
        [str(rounds), *(f"{epsilon:.3g}" for epsilon in row)]
        for rounds, row in zip(trade.iterations, trade.epsilon, strict=True)
    ]
    return figure(picture, said, data=table(heads, rows, caption="Epsilon by iterations and candidates"))


def _measured(measured: list[dict[str, Any]]) -> Markup:
    rows = [
        [" x ".join(each["columns"]), each["cells"], f"{each['expected_noise_tvd']:.2g}"]
        for each in sorted(measured, key=lambda each: -each["expected_noise_tvd"])
    ]
    said = "Expected total variation distance between shares with noise and without, before they are fitted"
    return table(["columns", "cells", "noise"], rows, caption=said)
