"""What a run spends: the ledger's lines beside the plan, written before anything private is read (rules 5 and 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pe_beam.engine import counting
from pe_beam.engine.queries import query_of, spending_iterations
from pe_beam.engine.run import Run
from pe_beam.engine.spending import line_hmac
from pe_beam.errors import InputError
from pe_beam.privacy import ledger, secret


def ledger_lines(run: Run) -> list[ledger.LedgerLine]:
    """What this run has spent, in the order it was spent."""
    if not run.store.exists(ledger.LEDGER):
        return []
    return ledger.parse_ledger(run.store.read(ledger.LEDGER))[0]


def check_ledger(run: Run) -> None:
    """Every line says what the recipe would spend, and what was released or noised has its line.

    Raises:
      InputError: a line that is missing or of another spending, or leftovers of a run whose ledger is gone.
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


def write_ledger_line(run: Run, iteration: int) -> None:
    """Writes that an iteration is spent, durably, before its job starts; nothing if it is written already."""
    lines = ledger_lines(run)
    if any(line.iteration == iteration for line in lines):
        return
    sigma, sensitivity, multiplier = query_of(run, iteration).cost()
    _refuse_beyond_plan([*(line.noise_multiplier for line in lines), multiplier], run.plan.schedule.all_multipliers)
    line = ledger.LedgerLine(
        iteration=iteration,
        sigma=sigma,
        sensitivity=sensitivity,
        noise_multiplier=multiplier,
        data_hmac=line_hmac(
            run, secret.read_secret(run.store), iteration=iteration, sigma=sigma, sensitivity=sensitivity
        ),
    )
    ledger.append_line(run.store, line)


def _refuse_beyond_plan(spent: Sequence[float], planned: Sequence[float]) -> None:
    """Raises InputError where the sum of 1/z^2 of all lines would pass the plan's (rule 5), but at epsilon = inf."""
    if 0 in planned:
        return
    most = math.fsum(1 / z**2 for z in planned)
    if 0 in spent or math.fsum(1 / z**2 for z in spent) > most * (1 + 1e-12):  # rounding of as many sums
        raise InputError("ledger.jsonl: its lines and the next one would spend more than the plan of this recipe")


def spent_multipliers(run: Run) -> list[float]:
    """Noise multipliers by the ledger."""
    return [line.noise_multiplier for line in ledger_lines(run)]
