"""What a plan recommends: the split of the budget, iterations, pool and smoothing, from declared facts alone.

The rule rests on runs on Adult, breast_cancer and a parity of columns (docs/tables.md, "What is recommended"), and is
for tables. Of other records only the size of the pool is said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pe_beam import registry
from pe_beam.keyed import keyed_rng
from pe_beam.measuring.interactions import SURE, blocks
from pe_beam.measuring.slices import SPIKE
from pe_beam.recipe.accuracy import one_way_tables, replaced
from pe_beam.recipe.filtered import unfiltered
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.measured import MOST_CELLS, MOST_COLUMNS, SPLIT, cells_of_halves
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import new_embedder, new_generator
from pe_beam.recipe.plan import Plan
from pe_beam.recipe.sections.measure import Halves
from pe_beam.recipe.warning import DROWNED, MEASURED_ALONE

WANTED = 0.5
"""Expected votes of a candidate over sigma, at least, in a recommended plan."""
_NOISE_TVD = 0.03  # of the mean one-way marginal; more budget buys less than the samples' own chance takes
_SHARES = (0.4, 0.8)  # of the budget for measurements
_TREE = 0.12  # of the mean one-way marginal with all of the budget: above it a tree of pairs costs more than it tells
_TREE_SHARE = 0.5  # of the budget for measurements with a tree, at least
_SAMPLES, _ROWS_MADE = 1000, 4000  # usual numbers; more of tables, for what learns from rows gains
_GROUPS = 32  # of a column in a pair of the tree, at most: noise says how many
_SEVERAL = 2  # labels: from so many on columns are counted over all of them too
_HALVES = (0.02, 0.03, 0.05)  # of the budget, out of that for measurements: for what only several columns together say
_AT_ONCE = (None, 6)  # columns in halves at a time: all, or so few that noise leaves sets of three of them
_FOUND = 0.6  # mean product of halves, 1 at most, that has to stand out from noise
_SLICES = ((0.02, 0.1), (0.03, 0.1), (0.05, 0.2))  # of the budget, if a value of so many of the records is seen then
_ITERATIONS = 4  # at most; more rounds on the same votes lost
_CHOICE = (2, 3)  # candidates for each sample: as many come before a further iteration, and at most
_HEARD = 1000  # candidates (or as many as samples, if fewer) have to be told apart by votes, or votes are no use
_POOL = 10_000  # candidates at most where votes say less than noise does; pooling votes takes their square
_NEAR, _FAR = 0.2, 0.8  # smoothing, as a share of the usual distance between two random rows; _FAR: noise is all
_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A recommended plan.

    Attributes:
      population: candidates to vote on.
      iterations: T.
      budget: share of the budget for measurements; None: nothing is recommended, as for records without columns.
      steps: share of each step of `privacy.measure`; None: `privacy.marginals` alone, or nothing.
      halves_columns: `columns` of the step `halves`, if there is one.
      overall: whether the step `one_way` counts columns over all labels too.
      smoothing: distance over which votes are pooled; None as with `budget`.
      votes_over_sigma: expected votes of a candidate over sigma in such a plan.
      reason: why, in a sentence.
    """

    population: int
    iterations: int
    budget: float | None
    steps: dict[str, float] | None
    halves_columns: int | None = None
    overall: bool = False
    smoothing: float | None
    votes_over_sigma: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Returns it as one JSON object."""
        return asdict(self)


def advise(recipe: Recipe, plan: Plan) -> Advice | None:
    """Returns what is recommended in place of a plan, for the same promise and the same number of samples.

    Returns:
      None where nothing can be said: without a guess of the number of records, without noise, with votes of samples of
      the records, or with a population that changes.
    """
    return recommend(recipe, plan, samples=recipe.evolution.samples) if is_advisable(recipe) else None


def is_advisable(recipe: Recipe) -> bool:
    """Returns whether something can be recommended in place of a plan: `advise` says when not."""
    fixed = isinstance(recipe.evolution.population, int | float | None)
    guessed = recipe.data.expected_records is not None
    return guessed and recipe.noisy and recipe.privacy.sampling_rate == 1 and fixed


def recommend(recipe: Recipe, plan: Plan, *, samples: int, iterations: int | None = None) -> Advice:
    """Returns what is recommended: a function of schema, labels, guess of records, promise, unit and samples alone.

    Args:
      recipe: with a guess of the number of records (data.expected_records) and noise.
      plan: its plan, whose noise says the budget.
      samples: how many are wanted.
      iterations: T, if it is settled; None: of tables it is recommended, of others it is the recipe's.
    """
    embedder = registry.find("embedders", recipe.embedder.name, key="embedder.name")
    if embedder.takes_schema and new_embedder(recipe).marginal_sizes():  # others may have to load a model
        return _of_tables(_Budget(recipe, plan), samples, iterations)
    return _pool_alone(_Budget(recipe, plan), samples, iterations or recipe.evolution.iterations)


@dataclass(frozen=True)
class _Budget:
    """The noise of any split of a plan's budget."""

    recipe: Recipe
    plan: Plan

    @property
    def multiplier(self) -> float:
        """The noise multiplier of a single query that spends all."""
        return 1 / math.sqrt(math.fsum(1 / each**2 for each in self.plan.schedule.all_multipliers))

    def signal(self, share: float, iterations: int, population: int) -> float:
        """Returns expected votes of a candidate over sigma if this share is spent on measurements."""
        evolution, records = self.recipe.evolution, self.recipe.data.expected_records or 0
        sigma = self.multiplier * math.sqrt(iterations / (1 - share)) * self.plan.schedule.sensitivity
        return records * min(evolution.votes_per_record, population) / population / sigma

    def sigma(self, share: float, norm_squared: int) -> float:
        """Returns the standard deviation of the noise on counts for a share, to which a record adds this at most."""
        return self.multiplier * math.sqrt(replaced(self.recipe) * norm_squared / share)

    def room(self, share: float, iterations: int, signal: float) -> int:
        """Returns the largest population in which votes over sigma are not below this."""
        votes = self.signal(share, iterations, 1) * self.recipe.evolution.votes_per_record
        return int(votes / signal * (1 + 1e-6))  # sigma is rounded, which must not cost a candidate


def draft_of(raw: Mapping[str, Any]) -> Recipe:
    """Returns a recipe as plain data whose number of samples is not settled, with samples enough for any family.

    Raises:
      RecipeError: the recipe is wrong.
    """
    return parse_recipe({**raw, "evolution": {**raw["evolution"], "samples": 10**6, "population": 10**6}})


def with_measurements(privacy: Mapping[str, Any], advice: Advice) -> dict[str, Any]:
    """Returns a recipe's `privacy` with the recommended measurements in place of its `marginals`."""
    if advice.budget is None:
        return dict(privacy)
    kept = {key: value for key, value in privacy.items() if key != "marginals"}
    if advice.steps is not None:
        measure: dict[str, dict[str, Any]] = {name: {"budget": share} for name, share in advice.steps.items()}
        if "tree" in measure:
            measure["tree"]["groups"] = _GROUPS
        if advice.overall:
            measure["one_way"]["overall"] = True
        if advice.halves_columns is not None:
            measure["halves"]["columns"] = advice.halves_columns
        return {**kept, "measure": measure}
    return {**kept, "marginals": {**(privacy.get("marginals") or {}), "budget": advice.budget}}


def usual_samples(recipe: Recipe) -> int:
    """Returns the number of samples that is proposed where nobody says one: no more than records are guessed, in whole
    families. A family of each label is the least. Those of the recipe do not count, so that it may be a draft.
    """
    measured = recipe.modality == "tabular" and recipe.privacy.marginals is not None and is_advisable(recipe)
    usual = _ROWS_MADE if measured else _SAMPLES
    records, family = recipe.data.expected_records, recipe.evolution.family()
    wanted = usual if records is None else min(usual, records)
    return max(wanted // family * family, family_rows(recipe))


def _pool_alone(budget: _Budget, samples: int, iterations: int) -> Advice:
    share = budget.recipe.privacy.label_budget()
    population = _whole(budget.recipe, min(samples, budget.room(share, iterations, WANTED)))
    signal = budget.signal(share, iterations, population)
    return Advice(
        population=population,
        iterations=iterations,
        budget=None,
        steps=None,
        smoothing=None,
        votes_over_sigma=signal,
        reason=f"{signal:.3g} expected votes a candidate over sigma; {WANTED:g} are wanted",
    )


def _of_tables(budget: _Budget, samples: int, iterations: int | None) -> Advice:
    recipe = budget.recipe
    records = recipe.data.expected_records or 0
    whole = float(np.mean([each.noise_tvd(budget.multiplier, records) for each in one_way_tables(recipe)]))
    stepwise = _counts_pairs(recipe)
    tree = whole <= _TREE and stepwise
    share = min(max((whole / _NOISE_TVD) ** 2, _SHARES[0], _TREE_SHARE if tree else 0.0), _SHARES[1])
    share = math.ceil(share * 20 - 1e-9) / 20
    heard = min(samples, _HEARD)  # more samples are drawn from fewer candidates, and varied
    if iterations is None:
        rounds = [t for t in range(_ITERATIONS, 0, -1) if budget.signal(share, t, _CHOICE[0] * heard) >= WANTED]
        iterations = rounds[0] if rounds else 1
    population, near = min(_CHOICE[1] * samples, budget.room(share, iterations, WANTED)), _NEAR
    if population < heard:
        population, share, near = min(_CHOICE[0] * samples, max(population, _POOL)), MEASURED_ALONE, _FAR
    population = _whole(recipe, population)
    halves = _halves(budget) if tree else None
    steps = _steps(share, halves, _slices(budget), tree=tree) if stepwise else None
    signal = budget.signal(share, iterations, population)
    noise_tvd = min(1.0, whole / math.sqrt(steps["one_way"] if steps else share))
    return Advice(
        population=population,
        iterations=iterations,
        budget=share,
        steps=steps,
        halves_columns=halves.columns if halves else None,
        overall=steps is not None and recipe.label_count >= _SEVERAL,
        smoothing=float(f"{near * _usual_distance(recipe):.2g}"),
        votes_over_sigma=signal,
        reason=f"noise moves a one-way marginal by about {noise_tvd:.2g} (total variation), and a candidate has "
        f"{signal:.3g} expected votes over sigma" + _besides(signal),
    )


def _steps(share: float, halves: Halves | None, slices: float, *, tree: bool) -> dict[str, float]:
    """Returns the share of each step of `privacy.measure`, in order."""
    own = float(halves.budget) if halves else 0.0
    split = SPLIT if tree else {"one_way": 1.0}
    found = {name: round(part * (share - own - slices), 4) for name, part in split.items()}
    found = {"one_way": found.pop("one_way")} | ({"halves": own} if own else {}) | found
    return found | ({"slices": slices} if slices else {})


def _slices(budget: _Budget) -> float:
    """Returns the smallest share at which counts of slices show values that come often; 0: none does, or has slices,
    or the generator draws by none."""
    recipe = budget.recipe
    assert recipe.generator is not None  # as `_counts_pairs` has it
    takes = registry.find("generators", recipe.generator.name, key="generator.name").takes_slices
    columns = len(new_embedder(recipe).marginal_slices()) if takes else 0
    records = recipe.data.expected_records or 1
    for share, often in _SLICES if columns else ():
        if SPIKE * budget.sigma(share, columns) <= often * records:
            return share
    return 0.0


def _halves(budget: _Budget) -> Halves | None:
    """Returns the cheapest counts in halves that show a parity, of all columns or else of three; None: none does."""
    recipe = budget.recipe
    labels, records = recipe.label_count, recipe.data.expected_records or 1
    columns = len(new_embedder(recipe).marginal_sizes())
    for most, share in itertools.product(_AT_ONCE, _HALVES):
        sets = blocks(columns, most)
        noise = budget.sigma(share, len(sets)) * labels * math.sqrt(2 ** len(sets[0])) / records
        if cells_of_halves(labels, columns, most) <= MOST_CELLS and SURE * noise <= _FOUND:
            return Halves(budget=share, columns=most)
    return None


def _counts_pairs(recipe: Recipe) -> bool:
    """Returns whether `privacy.measure` can count pairs of columns, and the generator draws by them."""
    embedder = new_embedder(recipe)
    if recipe.generator is None or embedder.marginal_parts > 1:
        return False
    if not 2 <= len(embedder.marginal_sizes()) <= MOST_COLUMNS:
        return False
    return bool(registry.find("generators", recipe.generator.name, key="generator.name").takes_pairs)


def _besides(signal: float) -> str:
    if signal >= WANTED:
        return f"; {WANTED:g} are wanted"
    if signal >= DROWNED:
        return f"; {WANTED:g} would be better, with fewer samples, more records or a larger epsilon"
    return "; so votes say little beside the marginals: fewer samples, more records or a larger epsilon would help"


def _whole(recipe: Recipe, population: int) -> int:
    """Returns a population in whole families of every label."""
    rows = family_rows(recipe)
    return max(population // rows, 1) * rows


def family_rows(recipe: Recipe) -> int:
    """Returns how many rows a family of each label has."""
    return recipe.evolution.family() * recipe.label_count


def _usual_distance(recipe: Recipe) -> float:
    """Returns the root mean squared distance between two rows that the schema alone draws."""
    labels: Sequence[str | None] = [recipe.label_list[0]] * _ROWS
    rngs = [keyed_rng(0, 0, i, "advice") for i in range(_ROWS)]
    generator = unfiltered(new_generator(recipe))  # a plan asks no filter, which may be paid or take long
    vectors = new_embedder(recipe).embed(generator.random(labels, rngs)).vectors
    return math.sqrt(2 * float(vectors.astype(np.float64).var(axis=0).sum()))
