"""What a plan warns of, before budget is spent: noise that drowns votes or columns, and samples that repeat."""

from __future__ import annotations

import math

from pe_beam.privacy import accounting
from pe_beam.recipe.accuracy import measured_tables
from pe_beam.recipe.bounds import most_of_a_label
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sizes import memory_warning
from pe_beam.selection.threshold import threshold_in_votes

DROWNED = 0.4
"""Expected votes of a candidate over sigma below which noise drowns them, where candidates follow measured columns."""
MEASURED_ALONE = 0.9
"""Share of the budget for measurements from which on a plan lives by them, and votes are for what is left."""
_LARGE = 1e-3
"""Delta above which a promise is weak however many records there are."""
_BLURRED = 0.3
"""Expected total variation of a measured column by noise, on average, from which on samples tell little of columns."""
_STANDING = 3
"""Candidates of a label that have to be able to stand out of noise together, where votes gather on few."""


def warnings_of(recipe: Recipe, schedule: accounting.NoiseSchedule, votes: list[float] | None) -> list[str]:
    """Returns warnings for the user.

    Args:
      recipe: of the plan.
      schedule: its noise.
      votes: expected votes of a candidate in each iteration; None without data.expected_records.
    """
    warnings = []
    if not recipe.noisy:
        warnings.append("privacy.epsilon: inf adds no noise; every artefact will be marked NOT PRIVATE")
    elif recipe.notice is not None:
        warnings.append(f"evolution.start: every artefact will be marked {recipe.notice}")
    records = recipe.data.expected_records
    if records is not None and recipe.privacy.delta > 1 / records:
        warnings.append("privacy.delta: above 1 / data.expected_records; a much smaller one is customary")
    elif records is None and recipe.noisy and recipe.privacy.delta > _LARGE:
        warnings.append(
            f"privacy.delta: {recipe.privacy.delta:g} is large for any number of records; one far below one over that "
            "number (data.expected_records, a public guess) is customary"
        )
    if recipe.privacy.unit == "record" and "client" in recipe.data.columns:  # allowed: a holdout is cut by it
        warnings.append(
            "privacy.unit: record, though data.columns.client names clients: the promise is made to one record; "
            "client makes it to all of a client's"
        )
    if recipe.stream is not None and recipe.stream.window.leaves_no_time:
        warnings.append(
            "stream.window.publish_after: as soon as a window closes, so that each is published late, as late as its "
            "run takes long, which the promise does not cover; a later instant leaves time for the run"
        )
    warnings += _drowned(recipe, list(schedule.sigmas), votes) + _all_alike(recipe)
    if recipe.evolution.repeats != "modelled":
        warnings += more_samples(recipe)
    if recipe.evolution.approximate is not None:
        warnings.append(
            "evolution.search: approximate votes now and then miss the nearest candidate; privacy is as with exact "
            "ones, and each iteration's manifest says which share was found on candidates alone"
        )
    large = memory_warning(recipe)
    return [*warnings, *([large] if large else []), *_blurred(recipe, schedule)]


def _blurred(recipe: Recipe, schedule: accounting.NoiseSchedule) -> list[str]:
    """Returns a warning if noise is about as large as the counts of single columns that are measured."""
    records, multiplier = recipe.data.expected_records, schedule.label_noise_multiplier
    if not records or multiplier is None or not recipe.privacy.counts_columns:
        return []
    alone = [table for table in measured_tables(recipe) if len(set(table.what) - {"label"}) == 1]
    moved = [table.noise_tvd(multiplier, records) for table in alone]
    mean = math.fsum(moved) / max(len(moved), 1)
    if mean < _BLURRED:
        return []
    return [
        f"noise drowns what is measured: it moves a column by {mean:.2g} on average (total variation; 1 is all), so "
        "that samples tell little of it; fewer columns, fewer values or bins of each, more records or a larger epsilon "
        "would help"
    ]


def _all_alike(recipe: Recipe) -> list[str]:
    """Returns a warning if no label has more candidates than a record has votes: then all get the same."""
    k, sizes = recipe.evolution.votes_per_record, recipe.evolution.populations()[:-1]
    few = [t for t, size in enumerate(sizes) if size <= k * recipe.label_count and most_of_a_label(recipe, t) <= k]
    if not few:
        return []
    return [
        f"evolution.votes_per_record: {k}, where no label has more candidates (iteration {few[0] + 1}): each record "
        "votes for all of its label, so that votes tell nothing; fewer votes or a larger evolution.population is wanted"
    ]


def more_samples(recipe: Recipe) -> list[str]:
    """Returns what is to be said of more samples than candidates: a fault, unless a model bounds how rows repeat."""
    evolution = recipe.evolution
    samples, pool = evolution.samples, evolution.populations()[-2]
    if evolution.final != "selected" or samples <= pool:
        return []
    return [
        f"evolution.samples: {samples} of {pool} candidates (evolution.population): {samples - pool} of them at "
        "least are variations of candidates that are among the samples"
    ]


def _drowned(recipe: Recipe, sigmas: list[float], votes: list[float] | None) -> list[str]:
    """Returns a warning if noise drowns the votes.

    Candidates that follow measured columns get about the same number of votes each, so that this number has to be
    heard, unless nearly all of the budget is for measurements. Others gather their votes on the few that are like the
    records: it is enough if some of each label can stand out, a sigma above the threshold, when they have all votes of
    the label.
    """
    if votes is None or not recipe.noisy:
        return []
    if recipe.privacy.counts_columns:
        if recipe.privacy.label_budget() >= MEASURED_ALONE - 1e-6:
            return []
        sigma, own = max(zip(sigmas, votes, strict=True), key=lambda pair: pair[0] / pair[1])
        if own >= DROWNED * sigma:
            return []
        said = (
            f"{own:.2g} votes a candidate can be expected under a sigma of {sigma:.3g}, so that samples follow the "
            "measured columns and votes add little; fewer candidates (evolution.population) or iterations"
        )
    else:
        standing = min(
            _standing(recipe, t, sigma, own) for t, (sigma, own) in enumerate(zip(sigmas, votes, strict=True))
        )
        if standing >= _STANDING:
            return []
        said = (
            f"if all votes gathered on {standing:.2g} candidates of a label, they would stand out, and on "
            f"{_STANDING} they would not; fewer iterations or a lower threshold (evolution.threshold)"
        )
    return [f"noise drowns the signal: {said}, more records or a larger epsilon would help"]


def _standing(recipe: Recipe, before: int, sigma: float, votes: float) -> float:
    """Returns how many candidates of a label can stand out together in iteration `before` + 1, on average."""
    height = threshold_in_votes(recipe.evolution.turn(before + 1).threshold, sigma)
    of_label = votes * recipe.evolution.populations()[before] / recipe.label_count
    return of_label / ((sigma if height is None else height) + sigma)
