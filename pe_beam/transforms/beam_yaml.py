"""The public transforms for Beam YAML: their arguments are plain values, and their records rows with a schema.

`templates/yaml/providers.yaml` makes them known to Beam YAML by these names. `Select` and `Generate` are not among
them, because objects of Python say what they do. Both come after the noise, where a pipeline may do as it likes.
"""
# Without `from __future__ import annotations`: Beam YAML reads the types of parameters from their annotations.

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import apache_beam as beam
import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from pe_beam import registry
from pe_beam.contracts.embedder import Embedder, Embedding
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.votes import Adjacency, Unit
from pe_beam.errors import InputError
from pe_beam.privacy.mechanism import GaussianMechanism, open_mechanism
from pe_beam.storage import open_store
from pe_beam.transforms import candidates as candidate_files
from pe_beam.transforms import embed, histogram, vote
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.spread import Spread
from pe_beam.voting.records import embed_rows

_ROWS = 4096  # records of a batch at most


class ColumnsOptions(Options):
    """Options of `columns`."""

    columns: tuple[str, ...] = Field(min_length=1, description="numeric columns, in the order of the vector")


class ColumnsEmbedder(Embedder):
    """The numbers of named columns as the vector. Scale them by declared ranges, not by measured ones."""

    Options = ColumnsOptions

    def __init__(self, options: BaseModel) -> None:
        """Takes ColumnsOptions."""
        self._columns = ColumnsOptions.model_validate(options.model_dump()).columns
        self.dimension = len(self._columns)

    def embed(self, records: pa.Table) -> Embedding:
        """See Embedder. A number that is missing or not finite is a fault."""
        missing = [name for name in self._columns if name not in records.column_names]
        if missing:
            raise InputError(f"embedder.columns: {', '.join(missing)}: no such column in the rows")
        # Unsafe: one whole number that has no float64 of its own would stop the pipeline of all others.
        numbers = [records[name].cast(pa.float64(), safe=False).to_numpy() for name in self._columns]
        with np.errstate(over="ignore"):  # a number beyond float32 is found below
            vectors = np.stack(numbers, axis=1).astype(np.float32)
        odd = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
        vectors[odd] = 0
        return Embedding(vectors, {row: Fault("number that is missing or not finite") for row in odd})


class MechanismOptions(Options):
    """What `mechanism` says in YAML: the same in `Vote` and in `NoisyHistogram`."""

    store: str = Field(description="folder or URL of a store; ledger, counts and histogram are below it")
    name: str = Field(description="one name is one histogram")
    epsilon: float = Field(gt=0, description="of (epsilon, delta)-differential privacy")
    delta: float = Field(gt=0, lt=1, description="a declared number")
    unit: Unit = Unit.RECORD
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE
    votes_per_record: int = Field(1, ge=1)

    def open(self) -> GaussianMechanism:
        """Writes its ledger entry, or finds it again. The budget is spent when this returns."""
        return open_mechanism(
            open_store(f"{self.store}/{self.name}"),
            self.name,
            epsilon=self.epsilon,
            delta=self.delta,
            unit=self.unit,
            adjacency=self.adjacency,
            votes_per_record=self.votes_per_record,
        )


class EmbedRecords(beam.PTransform):
    """Rows of private records -> batches of labelled vectors, for `Vote`. A record that cannot be used abstains.

    Args:
      embedder: `{columns: [x, y]}` for numbers, or the name and the options of an embedder of pe_beam.
      labels: the declared labels; rows then have a column `label`. Default: rows have no labels.
      unit: record or client; for client, rows have a column `client`.
      distance: l2, cosine or inner_product; the same as for `Vote`.
    """

    def __init__(
        self,
        embedder: Mapping[str, Any],
        labels: Optional[Sequence[str]] = None,  # noqa: UP045 - Beam YAML does not read `X | None`
        unit: str = "record",
        distance: str = "l2",
    ) -> None:
        super().__init__()
        make = _maker(embedder)
        make()  # what is wrong with it is said now
        own = None if labels is None else [str(label) for label in labels]
        self._embed = embed.EmbedRecords(make, labels=own, unit=unit, distance=distance)

    def expand(self, rows: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            rows
            | "Batch" >> beam.BatchElements(min_batch_size=1, max_batch_size=_ROWS)
            | "ToArrow" >> beam.ParDo(_ToArrowFn())
            | "Embed" >> self._embed
        )


class Vote(beam.PTransform):
    """Batches of vectors -> the exact counts of the votes for declared candidates. An empty input counts zeros.

    Args:
      candidates: the candidates, with the columns that the embedder reads, and `label` if labels are declared.
      mechanism: as for `NoisyHistogram`; unit and votes per record are taken from it.
      embedder: as for `EmbedRecords`.
      labels: as for `EmbedRecords`.
      distance: as for `EmbedRecords`.
    """

    def __init__(
        self,
        candidates: Sequence[Mapping[str, Any]],
        mechanism: Mapping[str, Any],
        embedder: Mapping[str, Any],
        labels: Optional[Sequence[str]] = None,  # noqa: UP045
        distance: str = "l2",
    ) -> None:
        super().__init__()
        paid = _mechanism(mechanism)
        known: list[str | None] = [None] if labels is None else [str(label) for label in labels]
        rows, codes = [dict(each) for each in candidates], {label: code for code, label in enumerate(known)}
        vectors, of = _embedded_candidates(rows, _maker(embedder)(), codes, distance)
        handle = candidate_files.write_candidates(
            paid.store,
            vectors,
            name=f"{paid.name}/candidates.parquet",
            labels=[codes[label] for label in of],
            distance=distance,
            votes_per_record=paid.votes_per_record,
        )
        grid = paid.open() if paid.unit is Unit.CLIENT else None
        self._vote = vote.Vote(handle, unit=paid.unit, grid=grid)

    def expand(self, batches: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return batches | "Count" >> self._vote


class NoisyVotes(NamedTuple):
    """A row of the histogram that YAML pipelines get."""

    position: int
    name: Optional[str]  # noqa: UP045
    noisy_votes: float


class NoisyHistogram(beam.PTransform):
    """Exact counts -> rows (position, name, noisy_votes), one for each candidate, differentially private.

    The budget is spent when the pipeline is built. The same pipeline again gives the same rows, and spends nothing.
    Other data under the same name are refused. The secret is deleted after the histogram is committed.

    Args:
      mechanism: store, name, epsilon, delta; and unit, adjacency, votes_per_record.
      names: a name for each candidate, in their order. Default: none.
    """

    def __init__(self, mechanism: Mapping[str, Any], names: Optional[Sequence[str]] = None) -> None:  # noqa: UP045
        super().__init__()
        paid = _mechanism(mechanism)
        self._opened, self._store = paid.open(), paid.store
        self._names = None if names is None else [str(name) for name in names]

    def expand(self, tallies: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            tallies
            | "Noise" >> histogram.NoisyHistogram(self._opened, commit=self._store)
            | "AfterCommit" >> Spread()
            | "Release" >> beam.ParDo(_ReleaseFn(self._opened, self._names)).with_output_types(NoisyVotes)
        )


class _ToArrowFn(PlainFn):
    """Rows with a schema -> an Arrow batch. Labels and client ids become texts, as the declared labels are."""

    def process(self, rows: list[Any]) -> Iterator[pa.RecordBatch]:
        with guarded(None, "ToArrow"):
            made = _batch([row._asdict() for row in rows])
        yield made


@beam.typehints.with_input_types(pa.Table)
class _ReleaseFn(PlainFn):
    def __init__(self, mechanism: GaussianMechanism, names: Sequence[str] | None) -> None:
        self._mechanism, self._names = mechanism, names

    def process(self, table: pa.Table) -> Iterator[NoisyVotes]:
        with guarded(None, "Release"):
            self._mechanism.forget_secret()
            if self._names is not None and len(self._names) != table.num_rows:
                raise InputError(f"names: {table.num_rows} are wanted, one for each candidate")
            names: Sequence[str | None] = self._names or [None] * table.num_rows
            rows = zip(table["position"].to_pylist(), names, table["noisy_votes"].to_pylist(), strict=True)
            made = [NoisyVotes(*row) for row in rows]
        yield from made


def _batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Returns rows as an Arrow batch; the first row says which columns there are."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name in ("label", "client"):
        if name in columns:
            columns[name] = pa.array([None if value is None else str(value) for value in columns[name]], pa.string())
    return pa.RecordBatch.from_pydict(columns)


def _embedded_candidates(
    rows: Sequence[Mapping[str, Any]], embedder: Embedder, codes: Mapping[str | None, int], distance: str
) -> tuple[np.ndarray, list[str | None]]:
    """Returns the vectors and the labels of declared candidates. All of them have to be usable."""
    if not rows or len({tuple(row) for row in rows}) != 1:
        raise InputError("candidates: a list of mappings with the same keys is wanted")
    batch = pa.Table.from_batches([_batch(rows)])
    unlabelled: list[str | None] = [None] * len(rows)
    labels = unlabelled if None in codes or "label" not in rows[0] else batch["label"].to_pylist()
    clients = [None] * len(rows)
    vectors, faults = embed_rows(
        embedder.embed, embedder.dimension, batch, labels, clients, codes=codes, by_client=False, distance=distance
    )
    if faults:
        row, fault = min(faults.items())
        raise InputError(f"candidates: number {row}: {fault.kind}")
    return vectors, labels


def _maker(embedder: Mapping[str, Any]) -> functools.partial[Embedder]:
    given = dict(embedder)
    if "columns" not in given and "name" not in given:
        raise InputError("embedder: {columns: [...]} or {name: ..., options} is wanted")
    return functools.partial(_embedder, given)


def _embedder(given: Mapping[str, Any]) -> Embedder:
    """Builds an embedder from plain values, in each process once."""
    options = dict(given)
    cls = (
        ColumnsEmbedder if "columns" in given else registry.find("embedders", options.pop("name"), key="embedder.name")
    )
    if cls.takes_schema:
        raise InputError("embedder.name: this one wants a declared schema; {columns: [...]} is wanted here")
    made: Embedder = cls(_checked(cls.Options, options, "embedder"))
    if made.remote:
        raise InputError("embedder.name: this one asks a service, whose account needs a run directory")
    return made


def _mechanism(given: Mapping[str, Any]) -> MechanismOptions:
    return MechanismOptions.model_validate(_checked(MechanismOptions, given, "mechanism"))


def _checked(model: type[BaseModel], given: Mapping[str, Any], key: str) -> BaseModel:
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([key, *(str(part) for part in first["loc"])])
        raise InputError(f"{where}: {first['msg']}") from None
