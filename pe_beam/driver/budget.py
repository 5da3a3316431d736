"""The budget of a run: compares the ledger with the plan and writes a line before a spending (rules 5 and 6)."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from pe_beam.custody import keeping
from pe_beam.driver import booking
from pe_beam.engine import counting
from pe_beam.engine.frozen import fingerprint
from pe_beam.engine.queries import query_of, spending_iterations
from pe_beam.engine.run import Run
from pe_beam.engine.spending import line_hmac, secret_of
from pe_beam.errors import InputError
from pe_beam.privacy import ledger
from pe_beam.privacy.subsampled import Spending


def ledger_lines(run: Run) -> list[ledger.LedgerLine]:
    """Returns the ledger lines of this run, in the order in which they were spent."""
    if not run.store.exists(ledger.LEDGER):
        return []
    return ledger.parse_ledger(run.store.read(ledger.LEDGER))[0]


def check_ledger(run: Run) -> None:
    """Checks that each line agrees with the recipe, and that each iteration with private results has its line.

    Raises:
      InputError: a line has other costs than the recipe, or a line is missing for files that need one.
    """
    lines = {line.iteration: line for line in ledger_lines(run)}
    for iteration, line in lines.items():
        if (line.sigma, line.sensitivity, line.noise_multiplier) != query_of(run, iteration).cost():
            raise InputError(f"ledger.jsonl: iteration {iteration} was spent otherwise than the recipe says")
    for iteration in spending_iterations(run):
        traces = [counting.counts_name(iteration), *query_of(run, iteration).traces()]
        if iteration not in lines and any(run.store.exists(name) for name in traces):
            raise InputError(
                f"ledger.jsonl: no line for iteration {iteration}, which has read private data; put the ledger back, "
                "or start a new run directory"
            )


def pay(run: Run, iterations: Container[int]) -> None:
    """Writes the ledger lines of those iterations that spend budget. Only who holds the run lock may call it."""
    run.store.demand_lock()
    for iteration in spending_iterations(run):
        if iteration in iterations:
            _write_line(run, iteration)


def _write_line(run: Run, iteration: int) -> None:
    """Writes the ledger line of an iteration durably, before its job starts. Does nothing if the line exists."""
    lines = ledger_lines(run)
    if any(line.iteration == iteration for line in lines):
        return
    sigma, sensitivity, multiplier = query_of(run, iteration).cost()
    _refuse_beyond_plan([*(line.noise_multiplier for line in lines), multiplier], run.plan.schedule.all_multipliers)
    booking.demand_entered(run)
    held = secret_of(run)
    if run.recipe.privacy.secret is not None:
        keeping.bind_data(run.store, held, fingerprint(run))
    line = ledger.LedgerLine(
        iteration=iteration,
        sigma=sigma,
        sensitivity=sensitivity,
        noise_multiplier=multiplier,
        data_hmac=line_hmac(run, held, iteration=iteration, sigma=sigma, sensitivity=sensitivity),
    )
    ledger.append_line(run.store, line)


def _refuse_beyond_plan(spent: Sequence[float], planned: Sequence[float]) -> None:
    """Raises InputError if the sum of 1/z^2 of all lines exceeds the plan's sum (rule 5), except at epsilon = inf."""
    if 0 in planned:
        return
    most = math.fsum(1 / z**2 for z in planned)
    if 0 in spent or math.fsum(1 / z**2 for z in spent) > most * (1 + 1e-12):  # tolerance for rounding in the sums
        raise InputError("ledger.jsonl: its lines and the next one would spend more than the plan of this recipe")


def spendings(run: Run) -> list[Spending]:
    """Returns what the ledger's lines spend. Their HMAC binds the recipe, and so its sampling rate."""
    rate = float(run.recipe.privacy.sampling_rate)
    return [Spending(line.noise_multiplier, rate if line.iteration > 0 else 1.0) for line in ledger_lines(run)]
