"""What a modality brings: generator, embedder, the shape of a record. Plain Python and Arrow, no Beam.

A third party registers classes of its own under the entry point groups `pe_beam.generators`,
`pe_beam.embedders` and `pe_beam.modalities`; `pe_beam.testing` holds the contract that each must keep.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from pe_beam.services.settings import Service

if TYPE_CHECKING:
    from pe_beam.report.history import History
    from pe_beam.report.page import Section
    from pe_beam.start.asking import Asker
    from pe_beam.start.looking import Seen


class Options(BaseModel):
    """Base of the typed options of a generator or an embedder: frozen, unknown keys refused, no NaN.

    The released recipe and the report withhold texts, which may be a path, a host or a key. An option says so itself
    with `Field(json_schema_extra={"public": True})` (always shown), `"name"` (a model's name, shown unless it
    looks like a path), `False` (never), or a list of the values that may be shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where in the evolution a variation is asked for.

    Attributes:
      iteration: 1 to iterations.
      iterations: T, how many there are.
      degree: how far a variation may go from its parent, 0 (not at all) to 1 (as far as at random).
    """

    iteration: int
    iterations: int
    degree: float


@dataclass(frozen=True)
class Fault:
    """Why a record cannot be used. `kind` is one of a few fixed phrases; `detail` is private."""

    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Embedding:
    """Vectors of a batch, float32 of shape (n, d); rows named in `faults` are zero and count for nothing."""

    vectors: np.ndarray
    faults: Mapping[int, Fault] = field(default_factory=dict)


@dataclass(frozen=True)
class Marginals:
    """Noisy one-way counts that a run has bought in iteration 0: public, as all that is noised.

    Attributes:
      labels: the declared labels; [None] without labels.
      counts: column -> float64 (labels, bins), as `Embedder.marginal_bins` cuts them.
      sigma: standard deviation of the noise on each count.
    """

    labels: Sequence[str | None]
    counts: Mapping[str, np.ndarray]
    sigma: float

    def totals(self) -> np.ndarray:
        """Noisy records by label, float64 (labels,): what the bins of each column add up to, averaged over columns.

        A column's sum has a variance proportional to its bins, so it is weighted by their inverse.
        """
        counts = list(self.counts.values())
        weights = np.array([1 / each.shape[1] for each in counts])
        sums = np.stack([each.sum(axis=1) for each in counts])
        totals: np.ndarray = (weights[:, None] * sums).sum(axis=0) / weights.sum()
        return totals


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The run that a generator or an embedder works in.

    Attributes:
      iterations: T.
      service: how to reach a remote service, from `execution`.
      folder: a folder that all workers share, for paces and accounts; None: no run directory.
      private: True where the service is asked about private records, so that numbers of calls and tokens tell of them:
        no message holds them.
    """

    iterations: int
    service: Service
    folder: Path | None
    private: bool = False


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What is around the rows that a `PaidGenerator` is asked for.

    Attributes:
      journal: a folder of this chunk alone for answers that have come in; it goes when the chunk is committed.
      population: the population that the parents are from, sorted by candidate_id; None at random.
    """

    journal: Path | None = None
    population: pa.Table | None = None


class Generator(abc.ABC):
    """Makes candidates from nothing (`random`) and near a given one (`vary`).

    Both return a table with a column `state` (string, JSON; null if nothing is to be remembered) and the
    modality's payload columns, one row a request, in order. All randomness comes from the generators handed
    in, one a row: the same row asks for the same thing whatever batch it comes in. Inputs are not mutated.
    """

    Options: ClassVar[type[Options]]
    modality: ClassVar[str | None] = None
    """Name of the modality whose candidates it makes; a recipe of another is refused. None: it makes do with any."""
    chunk_size: ClassVar[int] = 256
    """Rows generated and committed at a time. Part of the class, so that a resume cuts the same chunks."""
    remote: ClassVar[bool] = False
    """True where candidates are sent to a service outside this machine."""
    takes_schema: ClassVar[bool] = False
    """True where `__init__` also takes `schema=`: the modality's `schema_model`, as `data.schema` declares it."""
    takes_marginals: ClassVar[bool] = False
    """True where `seeded` draws by bought marginals (`privacy.marginals`)."""

    @abc.abstractmethod
    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Checks the options against the declared labels (`[None]` if there are none); raises RecipeError."""

    @abc.abstractmethod
    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """New candidates, one for each label given."""

    @abc.abstractmethod
    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """One variation of each row of `parents` (columns `label`, `state` and the payload)."""

    def seeded(self, marginals: Marginals) -> Generator:
        """A generator that draws by bought marginals, which are noisy and so public; for `takes_marginals` alone."""
        raise NotImplementedError

    def attach(self, surroundings: Surroundings) -> None:  # noqa: B027
        """Told once which run it works in, before it is asked for anything; raises RecipeError."""

    def ready(self) -> None:  # noqa: B027
        """Asked on the driver before any budget is spent: is all there that generation needs? Raises PeBeamError."""

    def summary(self, made: pa.Table) -> dict[str, Any]:
        """What the manifest should say of new candidates (columns `label` and `state`): of them alone."""
        return {}


class PaidGenerator(Generator):
    """A generator whose answers cost enough to be kept one by one until their chunk is committed."""

    @abc.abstractmethod
    def random(
        self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """As `Generator.random`."""

    @abc.abstractmethod
    def vary(
        self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """As `Generator.vary`."""


class Embedder(abc.ABC):
    """Record or candidate -> float32 vector of fixed length `dimension`."""

    Options: ClassVar[type[Options]]
    modality: ClassVar[str | None] = None
    """Name of the modality whose records it takes, as a generator's."""
    batch_size: ClassVar[int] = 1024
    """Rows embedded at a time, at most; fewer where they are large."""
    remote: ClassVar[bool] = False
    """True where records are sent to a service outside this machine."""
    takes_schema: ClassVar[bool] = False
    """True where `__init__` also takes `schema=`, as a generator's may."""

    dimension: int

    @abc.abstractmethod
    def __init__(self, options: BaseModel) -> None:
        """Loads what is needed; raises RecipeError or MissingExtraError."""

    @abc.abstractmethod
    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the payload columns of a table. A record that cannot be embedded is a fault.

        A vector is a function of its record alone, to the last bit, whatever stands beside it: the sensitivity of
        votes rests on it. Libraries that pad or multiply in batches do not give that by themselves.
        """

    def trial(self) -> pa.Table | None:
        """Made-up records for the self-check that each process makes before it embeds private ones.

        They are embedded in several companies (`modalities.selfcheck`), and a vector that comes out otherwise stops the
        run before any budget is spent. Whoever computes on torch, or with other libraries that work on batches, gives
        some: the same everywhere, of no private origin, enough to fill a batch of the size in use, and so ordered that
        every other one is of another kind (full and padded texts). None: records are embedded one by one, with nothing
        to find; of a remote service the contract is an assumption.
        """
        return None

    def marginal_sizes(self) -> dict[str, int]:
        """Column -> bins of its marginal; empty where vectors have none to count."""
        return {}

    def marginal_bins(self, vectors: np.ndarray) -> np.ndarray:
        """The one bin of each column that each vector, float32 (n, d), falls into: int64 (n, columns)."""
        raise NotImplementedError

    def attach(self, surroundings: Surroundings) -> None:  # noqa: B027
        """Told once which run it works in, before it is asked for anything; raises RecipeError."""

    def ready(self) -> None:  # noqa: B027
        """Asked on the driver before any data are read: is all there that embedding needs? Raises PeBeamError."""


class Content(abc.ABC):
    """How columns of a file become a modality's payload, record by record. Plain Arrow; pickles.

    Attributes:
      payload: the Arrow fields that come out.
    """

    payload: pa.Schema

    @abc.abstractmethod
    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        """None if a file's column of that type may hold this payload field; else what is wanted, in words.

        CSV and JSONL give every column as string.
        """

    @abc.abstractmethod
    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """Columns named as the payload, of any type that is `wanted` -> a payload table and the rows that fail."""


class View(abc.ABC):
    """How a modality shows its records in the report. One object draws one report, and may keep state while it does.

    A record is a plain dict of a population's columns: `candidate_id`, `parent_id`, `label`, `origin`, and the payload.
    HTML is `markupsafe.Markup`: build it with `Markup("<p>{}</p>").format(value)`, which escapes the value. Content
    and labels may be hostile; nothing of them may reach the page unescaped, and nothing drawn may make a request
    (`data:` pictures are fine, scripts are not). Drawing is deterministic: no clock, no random numbers. Colours come
    from the page's CSS variables (`pe_beam.report.page` lists them), so that light and dark both work.

    Attributes:
      tile: True where a fragment is a small square (a picture) that is laid out in grids; False for blocks of text or
        rows, which are laid out below each other.
      gallery_size: most records of one label and iteration that a gallery shows; the report may ask for fewer.
    """

    tile: ClassVar[bool] = False
    gallery_size: ClassVar[int] = 8

    @abc.abstractmethod
    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """One record as HTML.

        It stands inside a link, so it holds no link, button or other focusable element, and no `id`.

        Args:
          record: what is shown.
          parent: the candidate that it was varied from, where a change is to be marked (changed words, changed cells);
            None: shown alone.
          large: shown on its own, with room (about 160 px for a tile, all of a text), not as one of many.
        """

    @abc.abstractmethod
    def alt(self, record: Mapping[str, Any]) -> str:
        """A short plain text in a record's place, as read aloud: "picture 1204, label 3", or a text's first words."""

    def gallery(
        self, records: Sequence[Mapping[str, Any]], link: Callable[[Mapping[str, Any], Markup], Markup]
    ) -> Markup:
        """Many records of one label and iteration, in the order given.

        Args:
          records: `gallery_size` of them or fewer.
          link: (record, its HTML) -> the HTML inside a link to its lineage, or unchanged where the report follows none.
            Each record calls it once, around its fragment, or around one cell if records are rows of a table.
        """
        items = (Markup("<li>{}</li>").format(link(record, self.fragment(record))) for record in records)
        return Markup('<ul class="{}">{}</ul>').format("tiles" if self.tile else "blocks", Markup("").join(items))

    def sections(self, history: History) -> Sequence[Section]:
        """Sections of the modality's own, shown after the galleries (lengths of texts, marginals of columns).

        Args:
          history: the populations and noisy histograms of the release, by iteration. Charts: `pe_beam.report.charts`.
        """
        return ()

    def css(self) -> str:
        """Style that the fragments need. Asked for last, when all fragments are drawn: pictures can be shared in it."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a modality's own metrics may look at: candidates beside real records. All of it is private.

    Tables have the column `label` (string, null without labels) and then the modality's payload columns. Each is the
    whole of what there is, or a bounded subsample (`pe_beam.evaluation.sampling`) that is the same on every machine.

    Attributes:
      iteration: the population that is measured, 0 to iterations; None: real training records stand in for the
        samples, which gives the ceiling that samples can reach. Iteration 0 gives the floor.
      samples: the population, or those training records.
      held_out: real records that no iteration has seen, at least 2.
      training: real records that voted, at least 1; None where they are gone (purged, moved), and for the ceiling.
      labels: the declared labels; None without labels.
      recipe: the resolved recipe as plain data: schema, bounds and options are there.
      seed: for what a metric draws; the same for all populations of a run.
      sample_count: rows of the last population, as far as `metric_rows` goes: a metric whose figure depends on how
        much it learns from takes no more of the ceiling's. None: not known.
      options: what `evaluate --set NAME=VALUE` said; names are of `Modality.metric_options`.
      sample_vectors, held_out_vectors: float32 (n, d), the recipe's embeddings of the rows of `samples` and `held_out`;
        None: not at hand.
    """

    iteration: int | None
    samples: pa.Table
    held_out: pa.Table
    training: pa.Table | None
    labels: Sequence[str] | None
    recipe: Mapping[str, Any]
    seed: int
    sample_count: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    sample_vectors: np.ndarray | None = None
    held_out_vectors: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Curves for one chart of `private/evaluation/evaluation.html`, drawn for the last population.

    Attributes:
      title: what is shown, with its unit.
      x: positions along the x axis: numbers (a line) or names (bars), the same for all curves.
      y: curve ("samples", "held-out", ...) -> one finite number for each x.
      x_title: what x is.
      y_title: what y is.
    """

    title: str
    x: Sequence[float] | Sequence[str]
    y: Mapping[str, Sequence[float]]
    x_title: str = ""
    y_title: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a metric has found.

    Attributes:
      figures: name ("mauve", "tvd_1way": lower case, digits, underscores) -> a finite number. A name is of one metric
        only; a figure that cannot be had for a population is left away there, and `notes` say why.
      series: charts.
      notes: what a reader has to know, such as a cap; shown under the figures.
    """

    figures: Mapping[str, float]
    series: Sequence[Series] = ()
    notes: Sequence[str] = ()


Metric = Callable[[Comparison], Measured]
"""A modality's own metric, called once for each population that is evaluated and once for the ceiling.

It may run on any worker, twice, in any order; it draws only from `Comparison.seed`, writes nothing and logs nothing.
MissingExtraError leaves the metric out, and the evaluation says so; any other error stops the evaluation.
"""


@dataclass(frozen=True)
class Modality:
    """A kind of record.

    Attributes:
      name: as the recipe says it.
      payload: the Arrow fields of a record's content.
      preview: samples table -> PNG bytes of a picture of them, or None where there is none.
      content: how a file's columns become the payload; None: as they are (`FieldContent`).
      schema_model: the typed model of `data.schema`, which the recipe then has to give; None: it may not.
      with_schema: a validated `schema_model` -> this modality with the payload and content that it declares.
      view: makes the View that draws one report; None: the report shows the payload's values as plain text.
      metrics: what `evaluate` measures of this kind of record besides what it measures of embeddings.
      metric_rows: rows of a `Comparison` table at most.
      metric_options: name -> what it is, of what `pe-beam evaluate --set NAME=VALUE` may tell the metrics.
      start: what `pe-beam init` asks of this kind of record: (who answers, what a look has shown, the section `data`
        so far) -> the sections `generator` and `embedder`, and what it wants in `evolution` and `data` (a schema).
        None: only the names of generator and embedder are asked for.
    """

    name: str
    payload: pa.Schema
    preview: Callable[[pa.Table, str | None], bytes] | None = None
    content: Content | None = None
    schema_model: type[BaseModel] | None = None
    with_schema: Callable[[Any], Modality] | None = None
    view: Callable[[], View] | None = None
    metrics: Sequence[Metric] = ()
    metric_rows: int = 10_000
    metric_options: Mapping[str, str] = field(default_factory=dict)
    start: Callable[[Asker, Seen, Mapping[str, Any]], Mapping[str, Any]] | None = None

    def reader(self) -> Content:
        """How a file's columns become this payload."""
        from pe_beam.modalities.content import FieldContent

        return self.content or FieldContent(self.payload)
