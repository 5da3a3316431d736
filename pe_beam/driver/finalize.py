"""Finalizes a run: writes samples, picture, report and privacy.json, and deletes the secret (rule 4)."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pe_beam import registry
from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.record import population_files
from pe_beam.contracts.store import Folder
from pe_beam.custody import keeping
from pe_beam.driver.budget import ledger_lines, spendings
from pe_beam.driver.public import public_recipe, recipe_json
from pe_beam.engine import tables
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.queries import spending_iterations
from pe_beam.engine.run import Run
from pe_beam.errors import InputError
from pe_beam.numbers import json_number
from pe_beam.privacy import accounting
from pe_beam.privacy.statement import sampling_words, statement
from pe_beam.recipe.ancestry import added_to, costs_apart, with_ancestors, words_over
from pe_beam.recipe.section import Section
from pe_beam.recipe.sections.measure import Halves, OneWay
from pe_beam.recipe.start import MECHANISM
from pe_beam.storage.json_file import read_json
from pe_beam.storage.parquet import parquet_file

SUPPLIED = "private/secret.supplied"
_ACCOUNTANT = "dp-accounting: exact composition of Gaussian mechanisms"
_MEASURED = {
    "one_way": "one-way counts of the columns by label",
    "cliques": "counts of declared columns together",
    "halves": "counts of all columns together, in two groups of each, by label",
    "coarse": "coarse counts of all pairs of columns",
    "tree": "counts of pairs that were chosen by these",
    "slices": "counts of slices of bins that hold many records",
}
_SAMPLED_ACCOUNTANT = (
    "numeric privacy loss distributions of Gaussian mechanisms on Poisson samples, compared with dp-accounting's"
)


def is_complete(run: Run) -> bool:
    """Returns True when privacy.json exists. It is the last file of the release."""
    return run.store.exists(f"{run.layout.release}/privacy.json")


def finalize(run: Run) -> None:
    """Completes the release, then deletes the secret. A killed run may already have done any of the steps.

    Raises:
      InputError: the lines of the ledger are not those of the iterations that spend budget.
      StorageError: the run directory cannot be written.
    """
    if sorted(line.iteration for line in ledger_lines(run)) != spending_iterations(run):
        raise InputError("ledger.jsonl: lines are missing; put the ledger back as it was")
    commit_samples(run)
    if run.modality.preview is not None:
        samples = tables.read_bytes(run.store.read(f"{run.layout.release}/samples.parquet"))
        note = None if run.recipe.private else "NOT PRIVATE"
        run.store.commit(f"{run.layout.release}/samples.png", run.modality.preview(samples, note))
    record = privacy_record(run)
    run.store.commit(f"{run.layout.release}/recipe.json", recipe_json(run.recipe))
    if not run.store.exists(f"{run.layout.release}/report.html"):
        run.store.commit(f"{run.layout.release}/report.html", report_bytes(run, record))
    body = json.dumps(record, indent=1, allow_nan=False) + "\n"
    run.store.commit(f"{run.layout.release}/privacy.json", body.encode())
    run.store.hide_times(run.layout.release)
    forget_secret(run)
    run.store.sweep_attempts()


def commit_samples(run: Run) -> None:
    """Writes the last population as one file: its only part, or all parts joined."""
    last, name = run.recipe.evolution.iterations, f"{run.layout.release}/samples.parquet"
    parts = [run.layout.public(last, part) for part, _ in population_files(manifest_of(run, last))]
    if len(parts) == 1:
        run.store.copy(parts[0], name)
    else:
        run.store.commit(name, lambda file: _write_joined(run, parts, file))


def samples_digest(run: Run) -> str:
    """Returns the SHA-256 (hex) of the samples file that the last population gives."""
    manifest = manifest_of(run, run.recipe.evolution.iterations)
    parts = population_files(manifest)
    if len(parts) == 1:
        return str(manifest["files"][parts[0][0]]["sha256"])
    sink = _Digest()
    _write_joined(run, [run.layout.public(manifest["iteration"], part) for part, _ in parts], sink)
    return sink.found.hexdigest()


def _write_joined(run: Run, parts: Sequence[str], file: Any) -> None:
    def groups() -> Iterator[pa.Table]:
        for part in parts:
            with parquet_file(run.store, part) as source:
                for group in range(source.num_row_groups):
                    yield source.read_row_group(group)

    schema = tables.population_schema(run.modality.payload)
    tables.write_table(file, groups(), schema, notice=run.recipe.notice)


class _Digest(io.RawIOBase):
    """A sink that keeps only the digest of the written bytes, and their number."""

    def __init__(self) -> None:
        self.found = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.found.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size


def restore(run: Run) -> None:
    """Makes missing files of a complete run's release again from its iterations."""
    wanted = ["samples.parquet", "recipe.json", "report.html"]
    wanted += ["samples.png"] if run.modality.preview is not None else []
    if all(run.store.exists(f"{run.layout.release}/{name}") for name in wanted):
        forget_secret(run)
        run.store.sweep_attempts()
    else:
        finalize(run)


def report_bytes(run: Run, privacy: Mapping[str, Any], *, complete: bool = True) -> bytes:
    """Builds the report from the files of the release and from the privacy record.

    Args:
      run: the report reads its release, and its recipe until recipe.json is there.
      privacy: the content of privacy.json.
      complete: False marks the report as that of an unfinished run.
    """
    from pe_beam.report.build import build
    from pe_beam.report.history import History

    name = f"{run.layout.release}/recipe.json"
    if run.store.exists(name):
        recipe = read_json(run.store, name, dict)
    else:
        recipe = json.loads(json.dumps(public_recipe(run.recipe)))  # in the form that recipe.json gives when it is read
    return build(History(Folder(run.store, run.layout.release), recipe, privacy, complete), run.modality)


def forget_secret(run: Run) -> None:
    """Destroys the secret, wherever it is kept, unless the recipe keeps it. See `keeping.forget_secret`."""
    if not run.recipe.privacy.keep_secret:
        keeping.forget_secret(run.store)


def was_supplied(run: Run) -> bool:
    """Returns True if the user supplied the secret. A complete release records it, so private/ may be deleted."""
    if is_complete(run):
        return bool(read_json(run.store, f"{run.layout.release}/privacy.json", dict).get("supplied_secret"))
    return run.store.exists(SUPPLIED)


def privacy_record(run: Run) -> dict[str, object]:
    """Returns the content of privacy.json: the promise, and the budget that the ledger says is spent."""
    privacy, schedule = run.recipe.privacy, run.plan.schedule
    spent, delta = with_ancestors(run.recipe, spendings(run))
    return {
        "version": tables.FORMAT_VERSION,
        "epsilon": json_number(promised_epsilon(run)),
        "delta": delta,
        "adjacency": privacy.adjacency,
        "unit": privacy.unit,
        "mechanism": MECHANISM if run.recipe.noisy else "none",
        "noise_multiplier": list(schedule.noise_multipliers),
        "label_shares_noise_multiplier": schedule.label_noise_multiplier,
        **_measurements(run),
        "sampling_rate": privacy.sampling_rate,
        "iterations": run.recipe.evolution.iterations,
        "accountant": _ACCOUNTANT if privacy.sampling_rate == 1 or added_to(run.recipe) else _SAMPLED_ACCOUNTANT,
        "spent_epsilon": json_number(spent),
        "supplied_secret": was_supplied(run),
        "statement": statement_over([run], spent, delta, run.recipe.evolution.iterations),
        **started_from(run),
    }


def _measurements(run: Run) -> dict[str, object]:
    """Returns the part `measurements` of privacy.json: each step of `privacy.measure` and its noise, in order.

    `label_shares_noise_multiplier` is that of all of them together, rounded down.
    """
    steps = [{"step": each.name, "noise_multiplier": each.noise_multiplier} for each in run.plan.measurements]
    return {"measurements": steps} if steps else {}


def promised_epsilon(run: Run) -> float:
    """Returns the epsilon that a run promises, with the releases whose cost is added to it; inf if NOT PRIVATE."""
    return run.plan.epsilon if run.plan.start is None else run.plan.start.epsilon


def started_from(run: Run) -> dict[str, object]:
    """Returns the part `start` of privacy.json, or nothing for a run that starts at random.

    It has the digest of the release; `declared`: what the holder says of its data (same | disjoint | public);
    `promise`, as `Found`; what the run spends by itself (`own`); what each release before it has spent (`ancestors`);
    and the costs that are stated beside epsilon and delta, not added (`apart`).
    """
    start, privacy = run.recipe.evolution.start, run.recipe.privacy
    if start is None or start.found is None:
        return {}
    own = {
        "epsilon": json_number(run.plan.epsilon),
        "delta": privacy.delta,
        "spent_epsilon": json_number(accounting.spent_epsilon(spendings(run), privacy.delta)),
    }
    return {
        "start": {
            "digest": start.found.digest,
            "declared": start.declared,
            "promise": start.found.promise,
            "own": own,
            "ancestors": [each.model_dump(mode="json") for each in start.found.ancestors],
            "apart": costs_apart(run.recipe),
        }
    }


def statement_over(runs: Sequence[Run], epsilon: float, delta: float, histograms: int) -> str:
    """Returns the statement over runs of one unit and adjacency on the same data. The weakest run decides for all."""
    promise = runs[0].recipe.privacy
    rates = [run.recipe.privacy.sampling_rate for run in runs]
    rates += [each.sampling_rate for run in runs for each in added_to(run.recipe)]
    return statement(
        epsilon=epsilon,
        delta=delta,
        adjacency=promise.adjacency,
        unit=promise.unit,
        iterations=histograms,
        supplied_secret=any(was_supplied(run) for run in runs),
        bought=" and ".join(sorted({what for run in runs if (what := measured_by(run))})) or None,
        never_stop=all(run.recipe.data.never_stop for run in runs),
        vectors_checked=all(_checks_itself(run) for run in runs),
        sampling=sampling_words(rates, promise.unit),
        started=words_over([run.recipe for run in runs]),
        tainted=all(run.recipe.noisy for run in runs),
    )


def _checks_itself(run: Run) -> bool:
    """Returns whether a run checks the embedder's contract at the start (rule 13): whether it has trial records."""
    embedder = registry.find("embedders", run.recipe.embedder.name, key="embedder.name")
    return bool(embedder.trial is not Embedder.trial)


def _measured_in(name: str, step: Section) -> str:
    """Returns what a step of `privacy.measure` counts, in the words of the statement."""
    if isinstance(step, Halves) and step.columns is not None:
        return f"counts of up to {step.columns} columns together, in two groups of each, by label"
    if isinstance(step, OneWay) and step.overall:
        return f"{_MEASURED[name]} and over all labels"
    return _MEASURED[name]


def measured_by(run: Run) -> str | None:
    """Returns what is measured before the votes, in the words of the statement, or None if nothing is."""
    if run.recipe.privacy.measure:
        named = [_measured_in(name, step) for name, step in run.recipe.privacy.measure.steps.items()]
        return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    if run.recipe.privacy.marginals:
        if run.embedder.counts_several:
            return f"counts of {', '.join(run.embedder.marginal_sizes())} by label"
        pairs = ", and counts of pairs of columns" if run.recipe.privacy.marginals.pairs else ""
        return f"one-way counts of the columns by label{pairs}"
    return "label counts" if run.recipe.privacy.label_budget() else None
