"""Shows the noisy votes of every iteration, their noise, and the candidates that pass the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from pe_beam.contracts.view import Section
from pe_beam.report import charts
from pe_beam.report.charts import draw, draw_twice
from pe_beam.report.history import History
from pe_beam.report.html import details, figure, join, number, table, tag
from pe_beam.report.lineage import Generation, Lineage, evenly

_QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_MOST_BOXES = 24


def votes_section(lineage: Lineage) -> Section:
    """Returns the section."""
    history = lineage.history
    rounds = history.iterations[1:]
    if not rounds:
        body = tag("p", "There is no noisy histogram yet.")
        return Section(key="votes", title="The votes", body=body)
    noisy = "with the noise that hides each single one" if history.noisy else "without any noise"
    lead = f"A record votes for what is most like it. This is how the votes fell, {noisy}."
    shown = [rounds[i] for i in evenly(len(rounds), 12)]
    panels = join(tag("li", panel) for panel in _histograms(lineage, shown))
    parts = [_overview(lineage, rounds)]
    parts += [tag("h3", "Iteration by iteration"), tag("p", _how_to_read(history), class_="muted small")]
    parts += [tag("ul", panels, class_="grid")]
    if len(history.labels) > 1:
        picked = [rounds[i] for i in evenly(len(rounds), 3)]
        limits = np.concatenate([_noisy(lineage, t) for t in picked])
        pad = 0.04 * float(np.ptp(limits))
        boxes = [_by_label(lineage, t, (float(limits.min()) - pad, float(limits.max()) + pad)) for t in picked]
        parts += [tag("h3", "Label by label"), tag("div", join(boxes), class_="grid")]
    if history.privacy["label_shares_noise_multiplier"] is not None:
        parts.append(_measured(history) if history.privacy.get("measurements") else _bought(history))
    if isinstance(history.recipe["evolution"]["search"], dict):
        parts.append(_by_recall(history, rounds))
    if history.makers:
        parts += [tag("h3", "Generator by generator"), _by_maker(history)]
    parts.append(details("All figures, iteration by iteration", _all_figures(lineage, rounds)))
    return Section(key="votes", title="The votes", lead=lead, body=join(parts))


def _by_recall(history: History, rounds: list[int]) -> Markup:
    """Returns the recall of approximate votes, as the manifests say it."""
    found = {t: history.manifest(t)["search"] for t in rounds}
    said = (
        "Votes were found by approximate search, so a record may have voted for a candidate that is not the nearest. "
        "How often the search finds the nearest was measured on candidates alone, never on records: on mixtures of "
        "three candidates (near), and on points that spread as candidates do and are near none (far). The privacy of "
        "votes is as with exact search."
    )
    rows = [(str(t), note["probes"], f"{note['near']:.1%}", f"{note['far']:.1%}") for t, note in found.items()]
    data = table(
        ("iteration", "probes of a kind", "found, near", "found, far"), rows, caption="Recall of approximate votes"
    )
    return join([tag("h3", "Approximate votes"), tag("p", said, class_="muted small"), data])


def _by_maker(history: History) -> Markup:
    """Returns a table with the number of candidates of each of several generators, and their noisy votes."""
    rows = []
    for t in history.iterations:
        voted = history.manifest(t + 1)["generation"]["makers"] if t + 1 in history.iterations else {}
        for name, own in history.manifest(t)["generation"]["makers"].items():
            votes, count = voted.get(name, {}).get("noisy_votes"), own["candidates"]
            each = votes / count if votes is not None and count else None
            rows.append((str(t), name, count, own["new"], *("–" if x is None else x for x in (votes, each))))
    head = ("population", "made by", "candidates", "of them new", "noisy votes", "for each")
    return table(head, rows, caption="Candidates and noisy votes by generator")


def _how_to_read(history: History) -> str:
    text = (
        "Candidates by noisy votes, in colour those above the threshold. The band is one standard deviation of the "
        "noise (σ) on both sides of 0; the "
        "curve is what "
        "noise alone would give if nobody had voted; the dashed line is the threshold below which a candidate is "
        "not chosen."
    )
    if not history.noisy:
        text = "Candidates by votes; the dashed line is the threshold below which a candidate is not chosen."
    if history.recipe["evolution"]["smoothing"]:
        text += (
            " In this run the votes of look-alikes are pooled before selection, so a candidate below the line may "
            "still be "
            "chosen for its neighbours' votes."
        )
    if history.recipe["evolution"]["selection"] == "rank":
        text = text.replace("; the dashed line is the threshold below which a candidate is not chosen", "")
        text += " Selection is by rank: there is no threshold."
    return text


def _cast(lineage: Lineage, t: int) -> Generation:
    """Returns the generation that iteration t voted on."""
    return lineage.generations[t - 1]


def _noisy(lineage: Lineage, t: int) -> np.ndarray:
    votes = _cast(lineage, t).votes
    assert votes is not None
    return votes


def _thresholds(history: History, t: int) -> list[float]:
    return [value for value in history.thresholds(t).values() if value is not None]


def _overview(lineage: Lineage, rounds: list[int]) -> Markup:
    history = lineage.history
    spread = np.array([np.percentile(_noisy(lineage, t), _QUANTILES) for t in rounds])
    sigmas = np.array([history.sigma(t) for t in rounds])
    heights = [max(_thresholds(history, t), default=np.nan) for t in rounds]

    def paint(axes: Any) -> None:
        edges = [rounds[0] - 0.5, *[t + 0.5 for t in rounds]]
        band = np.append(sigmas, sigmas[-1])
        axes.fill_between(edges, -band, band, step="post", color=charts.NOISE_SOFT, lw=0)
        axes.step(edges, [*heights, heights[-1]], where="post", color=charts.NOISE, ls=(0, (4, 3)), lw=1.3)
        _boxes(axes, rounds, spread)
        axes.set(xlabel="iteration", ylabel="noisy votes", xlim=(edges[0], edges[-1]))
        charts.whole(axes.xaxis)

    title = "Noisy votes over the whole run"
    last = rounds[-1]
    desc = (
        f"By iteration, how noisy votes spread over candidates, with the band of one sigma of noise and the "
        "threshold. In "
        f"iteration {last} the highest is {number(spread[-1][-1])} and sigma is {number(sigmas[-1])}."
    )
    caption = (
        "Each mark is one iteration: the thin line from the 5th to the 95th percentile of all candidates, the thick "
        "one "
        "from quartile to quartile, a gap at the median, and dots at the lowest and the highest. Band: ±σ of the "
        "noise. "
        "Dashed: the threshold."
    )
    head = ["Iteration", "Lowest", "5%", "25%", "Median", "75%", "95%", "Highest", "σ"]
    rows = [[t, *map(float, values), float(s)] for t, values, s in zip(rounds, spread, sigmas, strict=True)]
    data = table(head, rows, caption=title)
    return figure(draw_twice(paint, title=title, desc=desc, width=820, height=330), caption, data=data)


def _boxes(axes: Any, places: list[int], spread: np.ndarray) -> None:
    """Draws a mark for five percentiles at each place, and dots at the lowest and the highest value."""
    width = max(1.5, min(9.0, 160 / max(len(places), 1)))
    axes.vlines(places, spread[:, 1], spread[:, 5], color=charts.ACCENT, lw=max(1.0, width / 6))
    axes.vlines(places, spread[:, 2], spread[:, 4], color=charts.ACCENT, lw=width)
    axes.plot(places, spread[:, 3], ls="", marker="_", ms=width + 3, mew=1.6, color=charts.PAPER)
    axes.plot(places, spread[:, 6], ls="", marker="o", ms=3.4, color=charts.ACCENT)
    axes.plot(places, spread[:, 0], ls="", marker="o", ms=2.2, color=charts.MUTED)


def _histograms(lineage: Lineage, rounds: list[int]) -> list[Markup]:
    """Returns one panel per iteration. All have the same axes so that readers can compare them."""
    everything = np.concatenate([_noisy(lineage, t) for t in rounds])
    low, high = float(everything.min()), float(everything.max())
    reach = max(3 * max(lineage.history.sigma(t) for t in rounds), 1.0)
    edges = np.linspace(min(low, -reach) - 1e-9, max(high, reach) + 1e-9, 41)
    counts = [np.histogram(_noisy(lineage, t), edges)[0] for t in rounds]
    top = max(int(own.max()) for own in counts) * 1.12
    return [_histogram(lineage, t, edges, own, top) for t, own in zip(rounds, counts, strict=True)]


def _histogram(lineage: Lineage, t: int, edges: np.ndarray, counts: np.ndarray, top: float) -> Markup:
    history = lineage.history
    noisy, sigma, heights = _noisy(lineage, t), history.sigma(t), _thresholds(history, t)

    def paint(axes: Any) -> None:
        axes.axvspan(-sigma, sigma, color=charts.NOISE_SOFT, lw=0)
        axes.stairs(counts, edges, fill=True, color=charts.MUTED, alpha=0.55)
        winners = np.histogram(noisy[noisy > max(heights)] if heights else noisy, edges)[0]
        axes.stairs(winners, edges, fill=True, color=charts.ACCENT)
        if sigma:
            x = np.linspace(edges[0], edges[-1], 161)
            scale = len(noisy) * (edges[1] - edges[0]) / (sigma * np.sqrt(2 * np.pi))
            axes.plot(x, scale * np.exp(-0.5 * (x / sigma) ** 2), color=charts.NOISE, lw=1.3)
        for height in sorted({min(heights), max(heights)}) if heights else []:
            axes.axvline(height, color=charts.INK, ls=(0, (4, 3)), lw=1.1)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, top))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)

    above = float(np.mean(noisy > max(heights))) if heights else None
    passed = "" if above is None else f"; {above:.0%} above the threshold"
    short = "" if above is None else f" · {above:.0%} pass"
    desc = (
        f"Iteration {t}: {len(noisy)} candidates from {number(float(noisy.min()))} to {number(float(noisy.max()))} "
        "noisy votes, "
        f"noise of {number(sigma)}{passed}."
    )
    svg = draw(paint, title=f"Noisy votes in iteration {t}", desc=desc, width=340, height=150)
    caption = Markup("<strong>Iteration {}</strong> · highest {}{}").format(t, number(float(noisy.max())), short)
    return figure(svg, caption)


def _by_label(lineage: Lineage, t: int, limits: tuple[float, float]) -> Markup:
    history, cast = lineage.history, _cast(lineage, t)
    codes = evenly(len(history.labels), _MOST_BOXES)
    own = [_noisy(lineage, t)[cast.codes == code] for code in codes]
    spread = np.array([np.percentile(votes, _QUANTILES) if len(votes) else [0.0] * len(_QUANTILES) for votes in own])
    names = [str(history.labels[code]) for code in codes]
    noted = history.thresholds(t)
    heights = [noted[history.labels[code]] for code in codes]
    sigma = history.sigma(t)
    long = max(map(len, names)) > 3

    def paint(axes: Any) -> None:
        axes.axhspan(-sigma, sigma, color=charts.NOISE_SOFT, lw=0)
        places = list(range(len(codes)))
        for place, height in enumerate(heights):
            if height is not None:
                axes.hlines(height, place - 0.4, place + 0.4, color=charts.NOISE, lw=1.4, ls=(0, (2, 1.5)))
        _boxes(axes, places, spread)
        axes.set_xticks(places, [charts.shortened(name) for name in names], rotation=90 if long else 0)
        axes.set(ylabel="noisy votes", xlim=(-0.6, len(codes) - 0.4), ylim=limits)

    title = f"Iteration {t}, by label"
    desc = (
        f"Spread of noisy votes over the candidates of each label, with the band of one sigma, {number(sigma)} votes."
    )
    head = ["Label", "Candidates", "Sum", "Median", "Highest", "Threshold"]
    rows = [
        [name, len(votes), float(votes.sum()), float(row[3]), float(row[6]), number(height)]
        for name, votes, row, height in zip(names, own, spread, heights, strict=True)
    ]
    svg = draw(paint, title=title, desc=desc, width=360, height=300 if long else 230)
    return figure(svg, Markup("<strong>Iteration {}</strong>").format(t), data=table(head, rows, caption=title))


def _measured(history: History) -> Markup:
    """Returns the steps of `privacy.measure`: what each counted, for which later ones were chosen by earlier ones."""
    rows = []
    for step, asked in history.measured():
        both = len({each["by_label"] for each in asked}) > 1
        over = {True: "", False: " over all labels" if both else ""}
        sets = [
            f"{each['columns'][0]} in slices of {len(each['sliced'])} of its bins"
            if "sliced" in each
            else " × ".join(each["columns"]) + over[each["by_label"]]
            for each in asked
        ]
        shown = ", ".join(sets[:12]) + (f" and {len(sets) - 12} more" if len(sets) > 12 else "")
        rows.append([step["step"], number(step["noise_multiplier"], 4), len(sets), shown])
    head = tag("h3", "Measurements that were bought")
    said = (
        "A part of the budget paid for noisy counts, one step after the other. What a step counts was chosen by the "
        "recipe and by the noisy counts before it, never by a true one; candidates are drawn by them. Counts and "
        "choices are in iteration=0000/measured."
    )
    caption = "Steps, in order"
    data = table(["Step", "Noise multiplier z", "Tables", "Columns counted (together)"], rows, caption=caption)
    return join([head, tag("p", said, class_="muted small"), data])


def _bought(history: History) -> Markup:
    found = history.bought().to_pylist()
    if "column" in found[0]:
        return _marginals(history, found)
    rows = [[row["label"], float(row["noisy_count"])] for row in found]
    head = tag("h3", "Label shares that were bought")
    said = "A part of the budget paid for noisy counts of labels; they say how many candidates each label gets."
    data = table(["Label", "Noisy count"], rows, caption="Noisy counts of records by label")
    return join([head, tag("p", said, class_="muted small"), data])


def _marginals(history: History, found: list[dict[str, Any]]) -> Markup:
    """Returns sums of the measured one-way marginals. It leaves out single counts, which may be thousands."""
    pairs = [row for row in found if row.get("other") is not None]
    found = [row for row in found if row.get("other") is None]
    columns = list(dict.fromkeys(row["column"] for row in found))
    sums = {(row["label"], row["column"]): 0.0 for row in found}
    for row in found:
        sums[row["label"], row["column"]] += row["noisy_count"]
    rows = [[label or "all", *(sums[label, column] for column in columns[:8])] for label in history.labels]
    head = tag("h3", "Marginals that were bought")
    by_record = history.recipe["privacy"]["unit"] == "record"
    whole = "Each column's counts add up to the records of a label, but for their noise. " if by_record else ""
    said = (
        f"A part of the budget paid for {len(found)} noisy counts of values, by label and column"
        f"{f', and {len(pairs)} of pairs of columns' if pairs else ''}; candidates are drawn "
        f"by them. {whole}All counts are in iteration=0000/labels."
    )
    caption = f"Noisy counts added up, by label and column (the first {len(columns[:8])} of {len(columns)})"
    data = table(["Label", *columns[:8]], rows, caption=caption)
    return join([head, tag("p", said, class_="muted small"), data])


def _all_figures(lineage: Lineage, rounds: list[int]) -> Markup:
    history = lineage.history
    rows = []
    for t in rounds:
        noisy, heights = _noisy(lineage, t), _thresholds(history, t)
        above = f"{float(np.mean(noisy > max(heights))):.1%}" if heights else "–"
        limits = sorted({number(height, 2) for height in heights})
        fallback = history.manifest(t)["selection"]["fallback"]
        rows.append(
            [
                t,
                len(noisy),
                number(history.sigma(t), 3),
                " to ".join([limits[0], limits[-1]][: len(limits)]) if limits else "–",
                float(noisy.sum()),
                float(noisy.max()),
                above,
                int(np.count_nonzero(_cast(lineage, t).children)),
                ", ".join(f"{label or 'all'}: {how}" for label, how in sorted(fallback.items())) or "none",
            ]
        )
    head = ["Iteration", "Candidates", "σ", "Threshold", "Sum", "Highest", "Above threshold", "Chosen", "Stand-ins"]
    caption = (
        "Noisy votes by iteration. Stand-ins: labels in which nothing passed the threshold, and what was used instead"
    )
    return table(head, rows, caption=caption)
