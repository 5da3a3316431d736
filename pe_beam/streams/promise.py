"""What a stream promises, fixed in `stream.json` before its first window is closed; and its recipe."""

from __future__ import annotations

import json
import math
from typing import Any

import yaml

from pe_beam.books.entering import RECEIPT
from pe_beam.contracts.store import Store
from pe_beam.errors import InputError, RecipeError
from pe_beam.numbers import json_number
from pe_beam.privacy.statement import stream_statement
from pe_beam.recipe.ancestry import added_to, as_run, with_ancestors, words_of_start
from pe_beam.recipe.identity import differing_keys, to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.streams.layout import LEDGER, RECIPE, STREAM, closed_windows

VERSION = 1


def promise(recipe: Recipe) -> dict[str, Any]:
    """Returns the content of `stream.json`. It follows from the recipe alone.

    Each record votes in one window. So the privacy loss of the stream is that of the window that has it, and the
    largest over all windows, which are equal by plan. Where windows slide a record votes in `sliding` windows, and a
    client's records vote in `client_windows` windows, each of which is a mechanism of its own: their 1/z^2 add up, and
    mu grows by the root of their number. All windows follow from the release that the first one starts from: what that
    has spent on what may be the stream's own records is added.

    Raises:
      RecipeError: that release is NOT PRIVATE, or its cost is not known.
    """
    assert recipe.stream is not None
    _refuse_start(recipe)
    privacy, stream, plan = recipe.privacy, recipe.stream, make_plan(recipe)
    spent = plan.schedule.spendings * recipe.unit_windows
    epsilon, delta = with_ancestors(recipe, spent)
    multipliers = [s.noise_multiplier for s in (*spent, *(s for each in added_to(recipe) for s in as_run(each).spent))]
    unsampled = privacy.sampling_rate == 1
    return {
        "version": VERSION,
        "name": recipe.name,
        "window": stream.window.model_dump(),
        "client_windows": stream.client_windows if privacy.unit == "client" else None,
        "epsilon": json_number(epsilon),
        "delta": delta,
        "mu": json_number(_mu(multipliers)) if unsampled else None,
        "adjacency": privacy.adjacency,
        "unit": privacy.unit,
        "window_epsilon": json_number(plan.epsilon),
        "iterations": recipe.evolution.iterations,
        "noise_multiplier": list(plan.schedule.noise_multipliers),
        "label_shares_noise_multiplier": plan.schedule.label_noise_multiplier,
        "sampling_rate": privacy.sampling_rate,
        "statement": stream_statement(
            epsilon=epsilon,
            delta=delta,
            adjacency=privacy.adjacency,
            unit=privacy.unit,
            windows=recipe.unit_windows,
            started=words_of_start(recipe, who="first window"),
        ),
    }


def _refuse_start(recipe: Recipe) -> None:
    """Raises RecipeError for a stream with noise that starts from a release without a promise: none would hold."""
    if recipe.noisy and not recipe.private:
        raise RecipeError(
            "evolution.start: a stream starts from no release that is NOT PRIVATE or whose cost is not known, for all "
            "of its windows follow from it; allowed: one with a privacy.json, or public: true, where that is so"
        )


def _mu(multipliers: list[float]) -> float:
    """Returns mu of Gaussian differential privacy: sqrt(sum 1/z^2) (Dong, Roth and Su, arXiv 1905.02383)."""
    return math.inf if 0 in multipliers else math.sqrt(math.fsum(1 / z**2 for z in multipliers))


def pin_promise(recipe: Recipe, store: Store) -> dict[str, Any]:
    """Commits `stream.json`, or checks that the recipe promises what it says. Returns its content.

    Raises:
      InputError: it promises something else. Another promise is another stream.
    """
    said = promise(recipe)
    store.commit(STREAM, (json.dumps(said, indent=1, allow_nan=False) + "\n").encode())
    held = read_promise(store)
    differing = sorted(key for key in {*said, *held} - {"statement"} if said.get(key) != held.get(key))
    if differing:
        raise InputError(
            f"{store.at(STREAM)}: promises another {', '.join(differing)}; another promise is another stream, with a "
            "directory of its own"
        )
    return held


def read_promise(store: Store) -> dict[str, Any]:
    """Returns the content of `stream.json`. Raises InputError if it is missing or damaged."""
    if not store.exists(STREAM):
        raise InputError(f"{store.uri}: not the directory of a stream (it has no {STREAM})")
    try:
        found = json.loads(store.read(STREAM))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{store.at(STREAM)}: damaged; put it back as it was")
    return found


def stored_recipe(store: Store) -> Recipe:
    """Returns the recipe of a stream. Raises InputError if its recipe.yaml is missing or damaged."""
    if not store.exists(RECIPE):
        raise InputError(f"{store.at(RECIPE)}: missing; put the stream's own back")
    try:
        return parse_recipe(yaml.safe_load(store.read(RECIPE)))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{store.at(RECIPE)}: damaged (not YAML); put the stream's own back") from None


def pin_recipe(recipe: Recipe, store: Store) -> None:
    """Commits the recipe, or checks that the stream has the same one. Keys that shape nothing may change."""
    if store.exists(RECIPE):
        old = stored_recipe(store)
        if old.stream is None or old.stream.at is not None:
            raise RecipeError(f"{store.uri}: the directory of a run, not of a stream; use another directory")
        keys = differing_keys(old, recipe)
        if keys:
            spare = not (closed_windows(store) or any(map(store.exists, (LEDGER, RECEIPT))))
            raise RecipeError(
                f"{store.uri}: holds a stream of another recipe; it differs in {', '.join(keys)}. Use another directory"
                + ("; no window is closed in this one yet, so it may be deleted" if spare else "")
            )
    store.commit(RECIPE, to_yaml(recipe).encode(), replace=True)
