"""Reads the ledger line of an iteration and the secret, and checks that this line pays for this run."""

from __future__ import annotations

import hmac

from pe_beam.custody import keeping
from pe_beam.engine.frozen import fingerprint
from pe_beam.engine.run import Run
from pe_beam.errors import InputError, SecretError
from pe_beam.privacy import ledger, noise
from pe_beam.privacy.coins import Coins
from pe_beam.privacy.secret import Secret, read_secret


def ledger_line(run: Run, iteration: int) -> ledger.LedgerLine:
    """Returns the line that pays for an iteration. Without a line no noise is drawn (rule 6).

    Raises:
      InputError: there is no line.
    """
    lines, _ = ledger.parse_ledger(run.store.read(ledger.LEDGER))
    for line in lines:
        if line.iteration == iteration:
            return line
    raise InputError(f"ledger.jsonl: no line for iteration {iteration}; a pipeline runs after its line")


def sigma_of(run: Run, iteration: int) -> float:
    """Returns the sigma of an iteration from the ledger, in votes. Raises InputError without a line."""
    return ledger_line(run, iteration).sigma


def grid_bits(run: Run, iteration: int) -> int:
    """Returns b of an iteration: its counts are whole multiples of 2^-b votes."""
    return noise.grid_bits_for(sigma_of(run, iteration), run.recipe.vote_unit)


def line_hmac(run: Run, secret: bytes, *, iteration: int, sigma: float, sensitivity: float) -> str:
    """Returns the HMAC of an iteration's line that pays for this recipe, these data and this secret (rule 15)."""
    return ledger.data_hmac(
        secret,
        run_id=run.run_id,
        fingerprint=fingerprint(run),
        iteration=iteration,
        sigma=sigma,
        sensitivity=sensitivity,
        grid_bits=noise.grid_bits_for(sigma, run.recipe.vote_unit),
    )


def secret_of(run: Run) -> Secret:
    """Returns the run's secret, from its directory or from who keeps it.

    Raises:
      SecretError: it is missing, denied, or another one.
      ServiceError: who keeps it does not answer now.
    """
    # The recipe is at hand. To look for secret.json would be a request more in each iteration on a bucket.
    return read_secret(run.store) if run.recipe.privacy.secret is None else keeping.read_secret(run.store)


def coins_of(run: Run, iteration: int) -> Coins:
    """Returns the coins of an iteration, which say who votes (rule 11). Raises as `secret_of`."""
    return Coins(
        secret_of(run),
        run_id=run.run_id,
        fingerprint=fingerprint(run),
        iteration=iteration,
        rate=float(run.recipe.privacy.sampling_rate),
    )


def refuse_unless_paid(run: Run, line: ledger.LedgerLine, secret: bytes) -> None:
    """Raises SecretError if a line pays for a different recipe, different data or a different secret."""
    mine = line_hmac(run, secret, iteration=line.iteration, sigma=line.sigma, sensitivity=line.sensitivity)
    if not hmac.compare_digest(mine, line.data_hmac):
        raise SecretError(
            f"ledger.jsonl: the line of iteration {line.iteration} pays for another recipe, another secret or "
            "other data; put back recipe.yaml and private/ as they were, or start a new run directory"
        )
