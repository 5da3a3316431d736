"""`pe-beam plan`: what a recipe will spend and make."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pe_beam.cli.terminal import print_json, told_epsilon
from pe_beam.wording import counted

if TYPE_CHECKING:
    from pe_beam.recipe.costs import Costs
    from pe_beam.recipe.models import Recipe
    from pe_beam.recipe.outlook import Outlook
    from pe_beam.recipe.plan import Plan


def plan_recipe(options: argparse.Namespace) -> None:
    """`pe-beam plan`: prints a plan, or writes the page that shows it."""
    from pe_beam.driver.booking import foretell
    from pe_beam.driver.parts import check_parts
    from pe_beam.recipe.costs import estimate_costs
    from pe_beam.recipe.loading import load_recipe
    from pe_beam.recipe.outlook import outlook
    from pe_beam.streams.closing import stream_source
    from pe_beam.streams.promise import promise

    recipe = load_recipe(options.recipe, options.set)
    plan, costs, fits = check_parts(recipe), estimate_costs(recipe), foretell(recipe)
    ahead = outlook(recipe, plan)
    whole = None
    if recipe.stream is not None and recipe.stream.at is None:
        stream_source(recipe)  # a stamp that tells no instant is a fault of the recipe
        whole = promise(recipe)
    if options.html is not None:
        from pe_beam.driver.html_file import write_html
        from pe_beam.driver.plan_page import page_of

        write_html(options.html, page_of(recipe, plan, ahead))
    if options.json:
        further = {"costs": None if costs is None else costs.to_json()} | ({} if fits is None else {"book": fits})
        further |= {} if whole is None else {"stream": whole}
        print_json(plan.to_json() | ahead.to_json() | further)
        return
    for line in _lines(recipe, plan, ahead, costs, fits):
        print(line)
    if whole is not None:
        cost = f"epsilon {told_epsilon(whole['epsilon'])}, delta {whole['delta']:g}"
        print(f"all windows together, however many: {cost} ({_in_windows(recipe)})")


def _in_windows(recipe: Recipe) -> str:
    windows = counted(recipe.unit_windows, "window")
    return f"a {recipe.privacy.unit} votes in {windows} at most; each costs what is above"


def _lines(recipe: Recipe, plan: Plan, ahead: Outlook, costs: Costs | None, fits: str | None) -> Iterator[str]:
    yield f"{recipe.name}: {counted(recipe.evolution.iterations, 'iteration')}, delta {recipe.privacy.delta:g}"
    if plan.measurements:
        yield from _measurements(plan.to_json()["measurements"])
    elif plan.schedule.label_noise_multiplier is not None:
        key = "marginals" if recipe.privacy.counts_columns else "label_counts"
        alone = told_epsilon(plan.epsilon_of_measurement)
        yield f"measured first: privacy.{key}, share {recipe.privacy.label_budget():g}, epsilon {alone} alone"
    yield "iteration  candidates  sigma (votes)  epsilon so far  votes/candidate  over sigma  noise passes threshold"
    for t, sigma in enumerate(plan.schedule.sigmas):
        votes = f"{plan.votes_per_candidate[t]:.2f}" if plan.votes_per_candidate else "?"
        chance = f"{plan.chance_of_noise[t]:.1%}" if plan.chance_of_noise else "auto"
        signal = f"{plan.votes_over_sigma[t]:.2f}" if plan.votes_over_sigma else "?"
        row = (t + 1, plan.candidates[t], f"{sigma:.4f}", told_epsilon(plan.epsilons[t]), votes, signal, chance)
        yield "{:>9}  {:>10}  {:>13}  {:>14}  {:>15}  {:>10}  {:>22}".format(*row)
    if plan.votes_per_candidate is None:
        yield "?: unknown without data.expected_records, a public guess"
    if plan.unsampled is not None:
        yield from _trade(plan.to_json()["sampling"])
    yield f"generator calls: {plan.generator_calls}"
    yield from ahead.lines()
    if plan.start is not None:
        yield from _start(plan.to_json()["start"])
    if costs is not None:
        yield from cost_lines(costs)
    if fits is not None:
        yield fits
    for note in plan.notes:
        yield f"note: {note}"
    for warning in [*plan.warnings, *(costs.warnings if costs is not None else [])]:
        yield f"warning: {warning}"


def _measurements(steps: list[dict[str, Any]]) -> Iterator[str]:
    """Yields the initial measurements: what each costs, and how far noise alone moves what it counts."""
    yield "measured first  share  epsilon alone  sigma (records)  cells  error by noise (TVD)"
    for each in steps:
        error = "?" if each["expected_error"] is None else f"{each['expected_error']:.3f}"
        row = (
            each["name"],
            each["budget"],
            told_epsilon(float(each["epsilon"])),
            each["cell_sigma"],
            each["cells"],
            error,
        )
        yield "{:<14}  {:>5.3g}  {:>13}  {:>15.4f}  {:>5.0f}  {:>20}".format(*row)
    if steps and steps[0]["expected_error"] is None:
        yield "?: unknown without data.expected_records, and for clients, whose records share one count"


def _trade(sampling: dict[str, Any]) -> Iterator[str]:
    """Yields what sampling gives and takes, in the first iteration."""
    for name, rate in (("sampled", sampling["sampling_rate"]), ("unsampled", 1)):
        side = sampling[name]
        signal = side["expected_votes_over_sigma"]
        votes = "" if signal is None else f", {signal[0]:.3g} expected votes a candidate over sigma"
        yield f"sampling_rate {rate:g}: sigma {side['sigma'][0]:.4f}{votes}"


def _start(start: dict[str, Any]) -> Iterator[str]:
    """Yields what the release that a run starts from has spent, and what comes of it."""
    said = {
        "stated": f"{start['releases_added']} added: epsilon {told_epsilon(start['epsilon'])} with this run, delta "
        f"{start['delta']:g}",
        "public": "declared public: nothing is added",
        "none": "NOT PRIVATE, and so is this run",
        "unknown": "its cost is not known: this run is NOT PRIVATE",
    }[start["promise"]]
    yield f"starts from release {start['release'][:12]}: {said}"
    for each in start["apart"]:
        whose = "these data" if each["data"] == "shared" else f"{counted(each['sets'], 'set')} of other data"
        cost = f"epsilon {told_epsilon(each['epsilon'])}, delta {each['delta']:g}"
        yield f"  stated apart, for {whose}: {cost} ({each['adjacency']}; unit: {each['unit']})"


def cost_lines(costs: Costs) -> Iterator[str]:
    """Yields what the calls of a paid model cost."""
    tokens = f"tokens sent, about: {costs.input_tokens}; received, at most: {costs.output_tokens}"
    yield f"model calls: {costs.calls}; {tokens}"
    if costs.money is not None:
        yield f"money, at most: {costs.money:.2f} {costs.currency} (rejected answers and faults of the service apart)"
    for address in costs.recipients:
        yield f"every candidate is sent to {address}: a recipient of the release"
