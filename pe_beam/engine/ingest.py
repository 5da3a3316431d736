"""Turns private records into frozen embedding shards with a fingerprint. Plain functions, no Beam.

A shard holds one fixed row range of one of the sorted source files. Where columns are counted, the bins of its records
lie beside it (`cells`). A resume finds shards to reuse by the digest of the source bytes. The name of a file contains
the digest of its own bytes, so two writers can never mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.cutting import in_order
from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import BATCH_BYTES, TOLD, UNREAD, Piece, Source, SourceBatch
from pe_beam.engine.apart import ApartEmbedder, apart_embedder
from pe_beam.engine.cells import bin_rows, commit_bins, counts_by_bins
from pe_beam.engine.cuttable import UNCUT, noted
from pe_beam.engine.frozen import INDEX, fingerprint_of, shards_of
from pe_beam.engine.run import Run
from pe_beam.engine.selfcheck import hold_embedder
from pe_beam.engine.shards import packed, shard_schema, shard_writer
from pe_beam.errors import DataError, EmptyInputError
from pe_beam.recipe.sources import private_source
from pe_beam.storage.json_file import read_json
from pe_beam.voting.records import embed_rows, vector_batch

EXPECTED = "private/embeddings/pieces"
KINDS = "private/kinds.json"
"""File with the kinds of faults of the rejects, for the data holder's terminal. It never contains a count."""
LEFT_COLUMNS = "private/columns.json"
"""File with the names of the files' columns that are not read, for the data holder's terminal."""
TOLD_FACTS = "private/told.json"
"""File with the phrases that the source tells the data holder (`contracts.source.TOLD`)."""
_INDEXED = ("piece", "shard", "sha256", "source", "bins", "bins_sha256")
"""What the index has of a piece; bins where columns are counted by record."""
NO_PIECE = Piece("", 0, 0, 0)
"""The piece of an empty input under `data.never_stop`: one shard without rows, so every histogram is only noise."""


def list_pieces(run: Run, found: Iterable[Piece]) -> list[Piece]:
    """Returns the pieces of all files in order, and records their number for the data holder's terminal (private).

    Raises:
      DataError: as `Source.check_pieces`; but under `data.never_stop` an empty source raises nothing.
    """
    pieces: list[Piece] = []
    try:
        pieces = in_order(private_source(run.recipe), found)
    except EmptyInputError:
        if not run.recipe.data.never_stop:
            raise
    pieces = pieces or [NO_PIECE]
    run.store.remove(KINDS)  # from an earlier attempt
    run.store.remove(LEFT_COLUMNS)
    run.store.remove(TOLD_FACTS)
    run.store.commit(EXPECTED, str(len(pieces)).encode(), replace=True)
    return pieces


def share_done(run: Run) -> float:
    """Returns the share of the pieces that are embedded, 0 to 1."""
    if not run.store.exists(EXPECTED):
        return 0.0
    expected = int(run.store.read(EXPECTED))
    done = sum(name.endswith(".json") and "-" in name for name in run.store.list_files("private/embeddings"))
    return min(done / max(expected, 1), 1.0)


def _summary_name(piece: Piece) -> str:
    return f"private/embeddings/{piece.name}.json"


def embed_piece(run: Run, piece: Piece, source: Source | None = None) -> dict[str, Any]:
    """Embeds one row range, commits its shard and rejects, and returns its summary (private).

    Args:
      run: the run.
      piece: the row range.
      source: has the records of the piece; None: the source of the recipe.
    """
    with _naming(run):
        return _embed_piece(run, piece, source or private_source(run.recipe))


@contextlib.contextmanager
def _naming(run: Run) -> Iterator[None]:
    """Notes which file an error is about, if the source tells."""
    try:
        yield
    except DataError as error:
        raise (noted(run.store, error, error.file) if error.file else error) from None


def _embed_piece(run: Run, piece: Piece, source: Source) -> dict[str, Any]:
    digest = _source_digest(piece, source)
    name = _summary_name(piece)
    if run.store.exists(name):
        known = read_json(run.store, name, dict)
        same = (known["source"], known["embedding_id"]) == (digest, run.embedding_id)
        # Older versions recorded no facts and compared client ids as raw text. One run must not mix both spellings.
        if same and "seen" in known and all(map(run.store.exists, _files(known))):
            return known
    summary = _embed_shard(run, piece, source) | {"source": digest}
    stale = run.store.exists(name)
    if not run.store.commit(name, json.dumps(summary).encode(), replace=stale):
        return read_json(run.store, name, dict)
    return summary


def _files(known: Mapping[str, str]) -> dict[str, str]:
    """Returns the files of a piece, by its summary or entry in the index, with the SHA-256 (hex) of each.

    Of a piece that an older version embedded, and where nothing counts bins, there is the shard alone.
    """
    bins = {known["bins"]: known["bins_sha256"]} if "bins" in known else {}
    return {known["shard"]: known["sha256"]} | bins


def _source_digest(piece: Piece, source: Source) -> str:
    return "" if piece == NO_PIECE else source.digest(piece)


def _embed_shard(run: Run, piece: Piece, source: Source) -> dict[str, Any]:
    """Embeds a piece and commits its shard under a name with the digest of its bytes."""
    if not run.recipe.data.never_stop:
        hold_embedder(run)  # under never_stop the separate process does it, because it embeds
    sink = io.BytesIO()
    rejects: list[dict[str, str]] = []
    seen: set[str] = set()
    batches = iter(()) if piece == NO_PIECE else source.read(piece)
    rows, bins = _write_shard(run, _noting(batches, seen), sink, rejects)
    data = sink.getvalue()
    sha = hashlib.sha256(data).hexdigest()
    shard = f"private/embeddings/{piece.name}-{sha[:16]}.parquet"
    run.store.commit(shard, data)
    run.store.remove(f"private/rejects/{piece.name}.jsonl")
    if rejects:
        lines = "".join(json.dumps(reject) + "\n" for reject in rejects)
        run.store.commit(f"private/rejects/{piece.name}.jsonl", lines.encode(), replace=True)
    return {
        "piece": piece.name,
        "shard": shard,
        "sha256": sha,
        "embedding_id": run.embedding_id,
        "rows": rows,
        "rejects": len(rejects),
        "kinds": sorted({reject["kind"] for reject in rejects}),
        "varieties": sorted({(reject["kind"], reject["variety"]) for reject in rejects if "variety" in reject}),
        "dimension": run.embedder.dimension,
        "seen": sorted(seen),
        **({} if bins is None else commit_bins(run, piece.name, bins)),
    }


def _noting(batches: Iterator[SourceBatch], seen: set[str]) -> Iterator[SourceBatch]:
    """Yields the batches unchanged, and collects their facts in `seen`."""
    for batch in batches:
        seen |= batch.seen
        yield batch


def _write_shard(
    run: Run, batches: Iterator[SourceBatch], sink: io.BytesIO, rejects: list[dict[str, str]]
) -> tuple[int, pa.Table | None]:
    """Writes the usable rows, and adds the others to `rejects`. Returns how many rows, and bins if counted."""
    client = run.recipe.vote_unit == "client"
    schema = shard_schema(run.embedder.dimension, by_client=client)
    with shard_writer(sink, schema) as writer:
        made = []
        for batch in joined(batches, run.embedder.batch_size):
            vectors, faults = embed_batch(run, batch)
            for row, fault in sorted(faults.items()):
                reject = {"where": batch.rows[row], "kind": fault.kind, "detail": fault.detail}
                rejects.append(reject | ({"variety": fault.variety} if fault.variety else {}))
            clients = batch.clients if client else None
            made.append(packed(vector_batch(vectors, batch.labels, clients, faults, run.recipe.label_codes)))
        rows = pa.Table.from_batches(made, schema=schema)
        if rows.num_rows:
            writer.write_table(rows, row_group_size=8192)
    return rows.num_rows, bin_rows(run, rows) if counts_by_bins(run) else None


def joined(batches: Iterable[SourceBatch], most: int) -> Iterator[SourceBatch]:
    """Joins batches up to `most` rows, for embedders that are faster with more rows. BATCH_BYTES bounds them too."""
    held: list[SourceBatch] = []
    rows = size = 0
    for batch in batches:
        if held and (rows + len(batch.labels) > most or size + batch.payload.nbytes > BATCH_BYTES):
            yield _one(held)
            held, rows, size = [], 0, 0
        held.append(batch)
        rows, size = rows + len(batch.labels), size + batch.payload.nbytes
    if held:
        yield _one(held)


def _one(batches: list[SourceBatch]) -> SourceBatch:
    if len(batches) == 1:
        return batches[0]
    faults: dict[int, Fault] = {}
    first = 0
    for batch in batches:
        faults |= {first + row: fault for row, fault in batch.faults.items()}
        first += len(batch.labels)
    return SourceBatch(
        pa.concat_tables([batch.payload for batch in batches]),
        [label for batch in batches for label in batch.labels],
        [client for batch in batches for client in batch.clients],
        [row for batch in batches for row in batch.rows],
        faults,
    )


def embed_batch(run: Run, batch: SourceBatch, *, holdout: bool = False) -> tuple[np.ndarray, dict[int, Fault]]:
    """Returns the vectors of all rows, and why some rows cannot be used. Each record is judged by itself.

    A record of a holdout casts no vote, so it needs no client id.
    """
    return embed_rows(
        lambda payload: embedder_of(run).embed(payload),
        run.embedder.dimension,
        batch.payload,
        batch.labels,
        batch.clients,
        codes=run.recipe.label_codes,
        by_client=run.recipe.vote_unit == "client" and not holdout,
        distance=run.recipe.evolution.distance,
        faults=batch.faults,
    )


def embedder_of(run: Run) -> Embedder | ApartEmbedder:
    """Returns the embedder of private records. Under `data.never_stop` it is a separate process, which may crash."""
    if not run.recipe.data.never_stop:
        return run.embedder
    return apart_embedder(run.root, run.embedding_id, run.embedder.dimension)


def commit_index(run: Run, summaries: list[dict[str, Any]]) -> None:
    """Freezes the embeddings under one fingerprint, or refuses the data. It commits once.

    Raises:
      DataError: no record is usable, there are more rejects than data.max_rejects allows, or `Source.refuse` refuses
        the facts of all records. It is never raised under `data.never_stop`.
    """
    summaries = sorted(summaries, key=lambda summary: summary["piece"])
    never_stop = run.recipe.data.never_stop
    if not never_stop:
        private_source(run.recipe).refuse({fact for s in summaries for fact in s["seen"]})
    rejected = sum(s["rejects"] for s in summaries)
    usable = sum(s["rows"] for s in summaries)
    kinds = _told_kinds(summaries)
    # A worker's message stays in its runner's logs, so the driver reports the kinds of faults.
    where = "; file and row of each are in private/rejects/" if kinds else ""
    run.store.remove(UNCUT)  # all could be cut this time
    run.store.commit(KINDS, json.dumps(kinds).encode(), replace=True)
    if not never_stop:
        for name, head in ((LEFT_COLUMNS, UNREAD), (TOLD_FACTS, TOLD)):
            facts = sorted({fact.removeprefix(head) for s in summaries for fact in s["seen"] if fact.startswith(head)})
            run.store.commit(name, json.dumps(facts).encode(), replace=True)
    if never_stop:
        pass  # a stop would reveal that there are no records, or many rejects
    elif usable == 0:
        raise DataError(f"data.path: there is no record that can be used{where}")
    elif rejected > run.recipe.data.max_rejects * (usable + rejected):
        raise DataError(
            f"data.max_rejects: a larger share of the records than {run.recipe.data.max_rejects:g} "
            f"cannot be used{where}"
        )
    index = {
        "version": 1,
        "fingerprint": fingerprint_of(summaries),
        "embedding_id": run.embedding_id,
        "dimension": summaries[0]["dimension"],
        "shards": [{k: s[k] for k in _INDEXED if k in s} for s in summaries],
    }
    run.store.commit(INDEX, json.dumps(index, indent=1).encode())


def _told_kinds(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the kinds of faults, with their varieties, which are fixed phrases as well."""
    varieties: dict[str, set[str]] = {kind: set() for summary in summaries for kind in summary["kinds"]}
    for summary in summaries:
        for kind, variety in summary.get("varieties", ()):  # a shard of an older version has none
            varieties[kind].add(variety)
    return [kind + _told(sorted(ways)) for kind, ways in sorted(varieties.items())]


def _told(ways: Sequence[str]) -> str:
    if not ways:
        return ""
    return f" ({len(ways)} kind{'s' if len(ways) > 1 else ''} of it: {', '.join(ways)})"


def check_piece(run: Run, piece: Piece, source: Source | None = None) -> None:
    """Refuses a source whose bytes differ from the embedded ones, and a shard or bins that differ from the frozen ones.

    What is missing is made again, if it gets the same bytes.

    Raises:
      DataError: the data or the embeddings differ from those that this run has frozen.
    """
    source = source or private_source(run.recipe)
    known = {shard["piece"]: shard for shard in shards_of(run)}.get(piece.name)
    with _naming(run):
        digest = _source_digest(piece, source)
    if known is None or known["source"] != digest:
        raise changed_data()
    files = _files(known)
    if not all(map(run.store.exists, files)):
        _embed_shard(run, piece, source)
    if any(not run.store.exists(file) or run.store.digest(file) != sha for file, sha in files.items()):
        raise DataError(
            "private/embeddings, private/bins: a frozen file is missing or damaged and was not made again as it was; "
            "delete a damaged one and run again, restore it, or start a new run directory (its budget adds up with "
            "what is spent here)"
        )


def left_out(run: Run) -> list[str]:
    """Returns the kinds of faults of the rejects, for the data holder; none under `data.never_stop` (rule 14)."""
    if run.recipe.data.never_stop or not run.store.exists(KINDS):
        return []
    return [str(kind) for kind in read_json(run.store, KINDS, list)]


def left_columns(run: Run) -> list[str]:
    """Returns the names of the files' columns that are not read although records have declared columns (a schema).

    A name is empty where only records have names. There are none under `data.never_stop`.
    """
    if run.recipe.data.never_stop or run.recipe.data.table_schema is None or not run.store.exists(LEFT_COLUMNS):
        return []
    return [str(name) for name in read_json(run.store, LEFT_COLUMNS, list)]


def told_facts(run: Run) -> list[str]:
    """Returns the phrases that the source tells the data holder; none under `data.never_stop` (rule 14)."""
    if run.recipe.data.never_stop or not run.store.exists(TOLD_FACTS):
        return []
    return [str(fact) for fact in read_json(run.store, TOLD_FACTS, list)]


def changed_data() -> DataError:
    """Returns the error for private data that differ from those that this run has embedded."""
    return DataError(
        "data: the private data differ from those that this run has embedded; restore them, or start a new run "
        "directory (what `pe-beam status` says is spent here adds up with what that one spends)"
    )
