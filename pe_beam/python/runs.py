"""Evolves a recipe, and gives its run as an object that reads what the run has made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pyarrow as pa

from pe_beam.contracts.store import Folder
from pe_beam.driver import loop
from pe_beam.driver.public import public_recipe
from pe_beam.driver.reporting import record_so_far
from pe_beam.engine.run import Run
from pe_beam.errors import InputError
from pe_beam.python.landing import as_columns, land_for, read_landed, shared_store
from pe_beam.python.warning import warn
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.releases.privacy import Privacy, as_privacy
from pe_beam.releases.reading import Release

if TYPE_CHECKING:
    from PIL.Image import Image

OnIteration = Callable[[Release], object]


class EvolvedRun(Run):
    """A run that has come to its end, for its holder. What it reads is released, but for `evaluate` and `status`.

    Besides what is here it has what a `Run` has: its recipe, its store, the layout of its files.
    """

    def __repr__(self) -> str:
        """Returns where it lies. No file is read for it."""
        return f"EvolvedRun({self.root!r})"

    @property
    def release(self) -> Release:
        """What may be shared."""
        return Release(Folder(self.store, self.layout.release))

    @property
    def iterations(self) -> list[int]:
        """As `Release.iterations`."""
        return self.release.iterations

    @property
    def privacy(self) -> Privacy | None:
        """As `Release.privacy`."""
        return self.release.privacy

    def manifest(self, iteration: int) -> dict[str, Any]:
        """As `Release.manifest`."""
        return self.release.manifest(iteration)

    def population(self, iteration: int, columns: Sequence[str] | None = None) -> pa.Table:
        """As `Release.population`."""
        return self.release.population(iteration, columns)

    def histogram(self, iteration: int) -> pa.Table:
        """As `Release.histogram`."""
        return self.release.histogram(iteration)

    def measurements(self) -> dict[str, pa.Table]:
        """As `Release.measurements`."""
        return self.release.measurements()

    def samples(self) -> pa.Table:
        """As `Release.samples`."""
        return self.release.samples()

    def records(self) -> pa.Table:
        """Returns the samples with the columns of the private records, as `pe-beam export` writes them.

        Of other records than tables, and of records of several tables: label and content, as `Release.records`.
        """
        tables = [] if self.modality.schema_model is None else [*self.tables().values()]
        return tables[0] if len(tables) == 1 else self.release.records()

    def tables(self) -> Mapping[str, pa.Table]:
        """Returns the tables that `pe-beam export` writes, by name: of modality relational both, of others one."""
        from pe_beam.driver.export import clean

        return clean(self, self.samples())

    def to_pandas(self) -> Any:
        """Returns `records` as a pandas DataFrame. Raises MissingExtraError if pandas is not installed."""
        from pe_beam.releases.frames import to_pandas

        return to_pandas(self.records())

    def images(self, iteration: int | None = None) -> list[Image]:
        """As `Release.images`."""
        return self.release.images(iteration)

    def report(self) -> str:
        """As `Release.report`."""
        return self.release.report()

    def export(self, to: str | Path, *, iteration: int | None = None, form: str | None = None) -> None:
        """As `pe-beam export`: writes samples, or a population, as Parquet, CSV, JSONL or an image folder.

        `form` is `--as`: huggingface, registry, checklist or histograms.
        """
        from pe_beam.driver.export import export, export_as

        if form is None:
            export(self.root, to, iteration=iteration)
        else:
            export_as(self.root, to, form, iteration=iteration)

    def status(self) -> dict[str, Any]:
        """As `pe-beam status --json`, for the holder alone."""
        from pe_beam.driver.status import status

        return status(self.root)

    def evaluate(
        self,
        beam_options: Sequence[str] = (),
        *,
        against: str | Path | None = None,
        iterations: str = "last",
        options: Mapping[str, str] | None = None,
        metric_rows: int | None = None,
        progress: TextIO | bool | None = None,
    ) -> dict[str, Any]:
        """Measures the samples against real records. The result is private: it is no release.

        `against` is a path. Arguments and errors are those of `pe_beam.evaluation.evaluate.evaluate`, and progress is
        that of `evolve`.
        """
        from pe_beam.evaluation.evaluate import evaluate

        if not isinstance(against, str | Path | None) or not isinstance(beam_options, list | tuple):
            raise InputError(
                "evaluate: records in memory are not taken; against='PATH' is wanted, real records in the form that "
                "the recipe reads (of a run on records in memory: Parquet)"
            )
        return evaluate(
            self.root,
            beam_options,
            against=None if against is None else str(against),
            iterations=iterations,
            options=options,
            metric_rows=metric_rows,
            progress=stream_for(progress),
        )

    def _repr_html_(self) -> str:
        """Returns the release as HTML, which notebooks show."""
        return self.release._repr_html_()


def evolve(
    recipe: Recipe | str | Path,
    run_dir: str | Path,
    beam_options: Sequence[str] = (),
    *,
    secret_file: str | Path | None = None,
    progress: TextIO | bool | None = None,
    unroll: bool = False,
    on_iteration: OnIteration | Sequence[OnIteration] = (),
    records: Any = None,
) -> EvolvedRun:
    """Runs a recipe to its end in a run directory, or resumes an earlier run of it.

    Args:
      recipe: from `load_recipe`, or what it takes: the name of a shipped recipe or the path of a file.
      run_dir: a local or mounted directory, which is made if it does not exist, or the URL of a store (docs/stores.md).
      beam_options: Beam flags, as `["--runner=FlinkRunner", ...]`.
      secret_file: 32 raw bytes to use as the secret (for tests); copied.
      progress: a stream for the progress lines of `pe-beam run`, True for stderr, False for none. By default they are
        shown on stderr if it is a terminal. Where they are not, what the plan warns of is a PeBeamWarning.
      unroll: one Beam job for all iterations. The release is the same; the whole budget is spent first.
      on_iteration: one function or several (`pe_beam.callbacks`), called with the release as it is after each iteration
        that this call commits, iteration 0 included; of an unrolled run, when its job is over. They see what is
        released, and nothing private. What one raises stops the run; the same call resumes it after that iteration.
      records: private records in memory, as `synthesize` takes them, in place of what `data.source` and `data.path`
        name: the columns that the recipe reads are written once to `private/records/` of the run directory.

    Raises:
      InputError: a bad recipe or secret, changed recipe, data or records, or too many rejects (exit status 2).
      PeBeamError: a locked run directory, a disk error, a failed stage, or a function of `on_iteration` that raised.

    >>> import pe_beam
    >>> recipe = pe_beam.load_recipe("digits", ["evolution.iterations=1", "evolution.samples=20"])
    >>> run = pe_beam.evolve(recipe, "memory://as-an-object", on_iteration=lambda release: print(release.iteration))
    0
    1
    >>> run.samples().num_rows, run.privacy["epsilon"], run.images()[0].size
    (20, 1.0, (32, 32))
    """
    functions = demand_options(beam_options, progress, on_iteration)
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if records is not None:
        store = shared_store(run_dir)
        recipe = read_landed(recipe, store)
        land_for(store, recipe, as_columns(records))
    run = loop.evolve(
        recipe,
        run_dir,
        beam_options,
        secret_file=secret_file,
        progress=stream_for(progress),
        unheard=warn,
        unroll=unroll,
        on_iteration=_shown_to(functions) if functions else None,
    )
    return EvolvedRun(run.root, run.recipe)


def demand_options(
    beam_options: Sequence[str], progress: TextIO | bool | None, on_iteration: OnIteration | Sequence[OnIteration]
) -> list[OnIteration]:
    """Returns the functions of `on_iteration`. Raises InputError, before anything is spent, if an argument is wrong."""
    if isinstance(beam_options, str) or not all(isinstance(each, str) for each in beam_options):
        raise InputError("beam_options: a list of flags is wanted, such as ['--runner=DirectRunner']")
    if not isinstance(progress, bool | None) and not hasattr(progress, "write"):
        raise InputError(f"progress: {type(progress).__name__} takes no lines; True, False, None or a stream is wanted")
    functions = [on_iteration] if callable(on_iteration) else list(on_iteration or ())
    if not all(map(callable, functions)):
        raise InputError("on_iteration: a function is wanted, or a list of functions, that is called with a release")
    return functions


def stream_for(progress: TextIO | bool | None) -> TextIO | None:
    """Returns the stream for progress lines, or None for none; see `evolve`."""
    if not isinstance(progress, bool | None):
        return progress
    terminal = sys.stderr is not None and sys.stderr.isatty()  # a program without a console has no stderr
    return sys.stderr if progress or (progress is None and terminal) else None


def _shown_to(functions: Sequence[OnIteration]) -> Callable[[Run, int], None]:
    """Returns what the driver calls: it gives the functions a release that ends with the iteration."""

    def call(run: Run, iteration: int) -> None:
        folder = Folder(run.store, run.layout.release)
        promise = as_privacy(json.loads(json.dumps(record_so_far(run))), "privacy.json")
        release = Release(folder, promise, public_recipe(run.recipe), iteration)
        for function in functions:
            function(release)

    return call
