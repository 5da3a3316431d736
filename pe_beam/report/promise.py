"""Shows the privacy promise in words, in formulas and in charts, and what it does not cover."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from markupsafe import Markup

from pe_beam.contracts.view import Section
from pe_beam.privacy.accounting import spent_epsilon
from pe_beam.privacy.statement import rounded_up
from pe_beam.report import charts
from pe_beam.report.charts import draw_twice
from pe_beam.report.history import History
from pe_beam.report.html import facts, figure, join, number, table, tag
from pe_beam.wording import counted

_NORMAL = NormalDist()
_WHOSE = {
    ("record", "add-or-remove-one"): "whether one record took part",
    ("record", "replace-one"): "which of two versions of one record took part",
    ("client", "add-or-remove-one"): "whether one client, with all its records, took part",
    ("client", "replace-one"): "which of two versions of all of one client's records took part",
}


def mu(history: History) -> float:
    """Returns mu of the Gaussian mechanism that equals all rounds so far: sqrt(sum 1/z^2), or inf without noise.

    Source: Dong, Roth and Su 2019.
    """
    spent = history.multipliers(history.rounds_spent)
    return math.sqrt(math.fsum(1 / z**2 for z in spent)) if all(spent) else math.inf


def best_guess(history: History) -> tuple[str, str]:
    """Returns what an attacker wants to know, and how often the best guess is right at even odds: Phi(mu / 2)."""
    privacy = history.privacy
    right = math.ceil(_NORMAL.cdf(mu(history) / 2) * 1000) / 1000
    return _WHOSE[privacy["unit"], privacy["adjacency"]], f"{right:.1%}"


def promise_section(history: History) -> Section:
    """Returns the section. For an unfinished run it shows the budget spent so far."""
    privacy = history.privacy
    if not history.private:
        body = join(
            [
                tag("p", privacy["statement"], class_="note"),
                _not_covered(history),
            ]
        )
        lead = "This run adds no noise. Nothing is protected."
        if history.noisy:
            lead = "This run adds noise, but it starts from a release without a known promise. Nothing is protected."
        return Section(key="promise", title="No promise", lead=lead, body=body)
    spent = mu(history)
    whose, right = best_guess(history)
    lead = (
        f"Someone who knows everything else in the data, sees all of this release, and has to guess {whose}, is right "
        f"at most {right} of the time. A coin is right 50% of the time."
    )
    charts_ = tag("div", join([_attacker(spent), _epsilon(history)]), class_="grid wide")
    body = join(
        [
            tag("p", privacy["statement"], class_="prose"),
            charts_,
            tag("h3", "In symbols"),
            _symbols(history, spent),
            tag("h3", "What it does not cover"),
            _not_covered(history),
        ]
    )
    return Section(key="promise", title="What is promised", lead=lead, body=body)


def _attacker(spent: float) -> Markup:
    false = np.linspace(0, 1, 101)
    found = [_NORMAL.cdf(_NORMAL.inv_cdf(x) + spent) if 0 < x < 1 else x for x in false]

    def paint(axes: Any) -> None:
        axes.fill_between(false, false, found, color=charts.ACCENT_SOFT, lw=0)
        axes.plot(false, false, color=charts.MUTED, ls=(0, (4, 3)), lw=1.2)
        axes.plot(false, found, color=charts.ACCENT)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="said yes when the answer is no", ylabel="said yes when it is yes")
        axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
        axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
        axes.text(0.66, 0.55, "a guess", color=charts.MUTED)
        axes.text(0.05, 0.93, "the best attack there can be", color=charts.ACCENT)

    title = "What an attacker can gain"
    chosen = [10, 25, 50, 75]
    data = table(
        ["Said yes wrongly", "Said yes rightly, at most"],
        [[f"{false[i]:.0%}", f"{found[i]:.1%}"] for i in chosen],
        caption=title,
    )
    desc = (
        f"The curve of the best possible test against the diagonal of guessing: of those that are not in the data "
        "25% are "
        f"called members wrongly while at most {found[25]:.1%} of the members are called so rightly."
    )
    caption = (
        "No test, however clever, gets above the line. The nearer it lies to the diagonal, the less the release "
        "says about "
        "any one."
    )
    return figure(draw_twice(paint, title=title, desc=desc, width=440, height=300), caption, data=data)


def _epsilon(history: History) -> Markup:
    delta = history.privacy["delta"]
    steps = list(range(history.rounds_spent + 1))
    spent = [spent_epsilon(history.spendings(t), delta) for t in steps]
    budget = float(history.privacy["epsilon"])

    def paint(axes: Any) -> None:
        axes.axhline(budget, color=charts.NOISE, ls=(0, (4, 3)), lw=1.2)
        axes.fill_between(steps, 0, spent, color=charts.ACCENT_SOFT, lw=0)
        axes.plot(steps, spent, color=charts.ACCENT, marker="o" if len(steps) < 40 else None, ms=4)
        axes.set(xlim=(0, max(steps[-1], 1)), ylim=(0, budget * 1.16), xlabel="iteration", ylabel="epsilon spent")
        axes.text(0.02 * max(steps[-1], 1), budget * 1.04, f"budget {budget:g}", color=charts.NOISE)
        charts.whole(axes.xaxis)

    title = "What each iteration spends"
    rows = [
        [t, number(history.privacy["noise_multiplier"][t - 1], 4) if t else "–", rounded_up(e, 4)]
        for t, e in zip(steps, spent, strict=True)
    ]
    data = table(["Iteration", "Noise multiplier z", "Epsilon so far"], rows, caption=title)
    over = counted(steps[-1], "iteration")
    desc = f"Epsilon grows from {spent[0]:.3g} to {spent[-1]:.3g} over {over}; the budget is {budget:g}."
    caption = (
        f"Epsilon at delta {delta:g} after each noisy histogram"
        + (f", {_bought(history)} bought before the first" if history.privacy["label_shares_noise_multiplier"] else "")
        + ". It grows ever more slowly, for Gaussian noise adds up in squares."
    )
    return figure(draw_twice(paint, title=title, desc=desc, width=440, height=300), caption, data=data)


def _symbols(history: History, spent: float) -> Markup:
    privacy = history.privacy
    multipliers = [float(z) for z in privacy["noise_multiplier"][: history.rounds_spent]]
    same = len(set(multipliers)) == 1
    i, sub, sup = partial(tag, "i"), partial(tag, "sub"), partial(tag, "sup")
    z = Markup("{}{} = {}").format(i("z"), sub(i("t")), number(multipliers[0], 4)) if same and multipliers else ""
    lines: list[tuple[str, object]] = [
        (
            "Each noisy histogram",
            Markup("{h}{t} = {c}{t} + round(N(0, σ{t}{two})), σ{t} = {z}{t} Δ").format(
                h=i("h"), c=i("c"), z=i("z"), t=sub(i("t")), two=sup("2")
            ),
        ),
        (
            "One unit moves a histogram by at most",
            Markup("‖{c}{t} − {c}′{t}‖{two} ≤ Δ = {s}").format(
                c=i("c"), t=sub(i("t")), two=sub("2"), s=counted(number(history.sensitivity, 4), "vote")
            ),
        ),
        (
            "All rounds act as one Gaussian",
            Markup("μ = (Σ{t} 1/{z}{t}{two}){half} = {mu}").format(
                z=i("z"), t=sub(i("t")), two=sup("2"), half=sup("1/2"), mu=number(spent, 4)
            ),
        ),
        (
            "Its privacy profile",
            Markup("δ(ε) = Φ(−ε/μ + μ/2) − {e} Φ(−ε/μ − μ/2)").format(e=Markup("e<sup>ε</sup>")),
        ),
        (
            "At the declared delta",
            Markup("ε({d:g}) = {e}").format(d=privacy["delta"], e=_spent(history)),
        ),
    ]
    if z:
        lines.insert(1, ("The same noise in each", z))
    note = (
        f"c is the vector of exact votes, one entry a candidate of every label, zeros included; neighbouring data "
        "differ "
        f"by one {privacy['unit']} ({privacy['adjacency']}). Mechanism: {privacy['mechanism']}. Composition: Dong, "
        "Roth and "
        f"Su, Gaussian Differential Privacy (2019); profile: Balle and Wang (2018). Accountant: "
        f"{privacy['accountant']}."
    )
    return Markup('<div class="panel symbols">{}<p class="small muted">{}</p></div>').format(facts(lines), note)


def _spent(history: History) -> str:
    return rounded_up(spent_epsilon(history.spendings(history.rounds_spent), history.privacy["delta"]))


def _not_covered(history: History) -> Markup:
    recipe, privacy = history.recipe, history.privacy
    items: list[tuple[str, str]] = [
        (
            "What the models knew before.",
            f"The generator ({', '.join(history.generators)}) and the embedder ({recipe['embedder']['name']}) are "
            "taken as "
            "public. If one was trained on these very records, it may repeat them, and no figure here says so.",
        ),
        (
            "Several runs.",
            "Epsilon is that of this run. Runs on the same data add up, and publishing the best of several spends "
            "them all: "
            "pe-beam privacy DIR DIR gives the sum.",
        ),
        (
            "What was declared.",
            "Labels, bounds, delta, the expected number of records and the rest of the recipe are the holder's public "
            "words. If they were read off the data, that is not accounted for.",
        ),
        (
            "More than one unit." if privacy["unit"] == "record" else "What clients share.",
            "One record is protected. Someone with many records in the data is protected less, as the number grows."
            if privacy["unit"] == "record"
            else "All records of one client are protected; what is true of many clients alike can be learnt, and "
            "should be.",
        ),
        (
            "Unlimited computing power.",
            "Noise comes from a keyed cryptographic stream, so the guarantee is computational. It covers one "
            "release per "
            "secret, and whoever has the secret can undo it.",
        ),
        (
            "Figures against real records.",
            "Whatever pe-beam evaluate measures is not part of the release, and not covered.",
        ),
    ]
    if history.start is not None and history.private:
        items.insert(1, ("What it started from.", _started(history.start)))
    if not history.private:
        items = items[:1] + items[2:3]
    if privacy["supplied_secret"]:
        items.insert(
            0,
            (
                "A secret that was handed in.",
                "The user supplied it: the guarantee holds only if it is random, unknown to others, and used for "
                "nothing "
                "else.",
            ),
        )
    return tag("ul", join(Markup("<li><strong>{}</strong> {}</li>").format(*item) for item in items), class_="caveats")


def _started(start: Mapping[str, Any]) -> str:
    """Returns what the promise has of the release that the run starts from."""
    own = f"By itself this run spends epsilon {rounded_up(float(start['own']['spent_epsilon']), 4)}. "
    return (
        own
        + {
            "same": "What earlier releases have spent is as they say it. Where unit and neighbours are the same it is "
            "counted in above, else stated beside it; that the sum was planned before the first of them is assumed.",
            "disjoint": "That earlier releases are of other data is the holder's word, and that it was settled which "
            "data are which before the first of them was seen.",
            "public": "That the release it starts from is public is the holder's word.",
        }[start["declared"]]
    )


def _bought(history: History) -> str:
    privacy = history.recipe["privacy"]
    if privacy.get("measure"):
        return "measurements"
    return "marginals" if privacy.get("marginals") else "label shares"
