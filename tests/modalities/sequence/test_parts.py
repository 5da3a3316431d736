"""Embedder, generator, chain, metrics and view of sequences."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from markupsafe import Markup

from pe_beam.contracts.generator import Marginals, Step
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.sequence import modality_of
from pe_beam.modalities.sequence.embedder import SequenceEmbedder, SequenceEmbedderOptions
from pe_beam.modalities.sequence.events import read_payload, write_payload
from pe_beam.modalities.sequence.generator import SequenceGenerator
from pe_beam.modalities.sequence.metrics import shares_of, shuffle, transitions, tvd
from pe_beam.modalities.sequence.rows import unfold
from pe_beam.modalities.sequence.schema import SequenceSchema
from pe_beam.report import charts
from pe_beam.testing import check_embedder, check_generator
from tests.modalities.sequence.conftest import SCHEMA
from tests.voting.dense import scale_client


def generator_of(schema):
    return SequenceGenerator(SequenceGenerator.Options(), labels=[None], schema=schema)


def drawn(schema, count):
    return generator_of(schema).random([None] * count, [keyed_rng(0, 0, row, "test") for row in range(count)])


def event(kind, gap=None, ward="a", cost=1.0):
    return {"kind": kind, "gap": gap, "ward": ward, "cost": cost}


def payload(schema, *sequences):
    return pa.table([pa.array(sequences, schema.payload.field("events").type)], schema=schema.payload)


def test_contracts_hold(schema):
    check_generator(generator_of(schema), modality_of(schema), labels=[None])
    embedder = SequenceEmbedder(SequenceEmbedderOptions(), schema=schema)
    bad = payload(
        schema, [], [event("admission", "0-1")], [event("admission"), event("no", "0-1")], [event("surgery", cost=1e9)]
    )
    check_embedder(embedder, drawn(schema, 20), bad=bad)


def test_a_payload_is_read_as_it_was_written(schema):
    made = drawn(schema, 30).select(["events"])
    assert write_payload(read_payload(made, schema), schema).equals(made)
    assert write_payload(read_payload(made.slice(7, 5), schema), schema).equals(made.slice(7, 5).combine_chunks())
    assert max(read_payload(made, schema).lengths) <= schema.most


def test_order_and_content_move_a_vector(schema):
    one = [event("admission"), event("surgery", "0-1"), event("discharge", "1-7")]
    swapped = [event("surgery"), event("admission", "0-1"), event("discharge", "1-7")]
    later = [event("admission"), event("surgery", "0-1"), event("discharge", "7-30")]
    vectors = (
        SequenceEmbedder(SequenceEmbedderOptions(), schema=schema).embed(payload(schema, one, swapped, later)).vectors
    )
    assert np.linalg.norm(vectors[0] - vectors[1]) > np.linalg.norm(vectors[0] - vectors[2]) > 0


def test_a_clients_counts_have_one_norm_and_are_in_proportion(schema):
    embedder = SequenceEmbedder(SequenceEmbedderOptions(full=2.0), schema=schema)
    short = [event("admission"), event("discharge", "1-7")]
    same = [event("therapy"), *[event("therapy", "0-1")] * 3]
    vectors = embedder.embed(payload(schema, [event("surgery")], short, same)).vectors
    rows, columns, bins = embedder.marginal_ballots(vectors)
    starts = np.cumsum([0, *embedder.marginal_sizes().values()])
    counts = np.zeros((3, starts[-1]), dtype=np.int64)
    np.add.at(counts, (rows, starts[columns] + bins), 1)
    norms = np.sqrt((counts**2).sum(axis=1))
    assert np.ptp(norms) < 0.06 * norms.mean()
    assert all((scale_client(row, 20).astype(object) ** 2).sum() <= 4**20 for row in counts)
    kinds = len(schema.kinds)
    moves = counts[:, starts[1] : starts[2] - 1].reshape(3, kinds + 1, kinds + 1)
    # 4 a transition: beginning to admission, admission to discharge, discharge to the end
    assert moves[1, 4, 0] == moves[1, 0, 3] == moves[1, 3, 4] == 4 and moves[1].sum() == 12
    assert moves[2, 2, 2] > 2 * moves[2, 4, 2] > 0  # of a longer one less than 4 each, in proportion


def measured(schema, sequences):
    """What would be measured of sequences, without noise."""
    embedder = SequenceEmbedder(SequenceEmbedderOptions(full=10.0), schema=schema)
    _, columns, bins = embedder.marginal_ballots(embedder.embed(payload(schema, *sequences)).vectors)
    counts = {}
    for at, (name, size) in enumerate(embedder.marginal_sizes().items()):
        counts[name] = np.bincount(bins[columns == at], minlength=size)[None].astype(float)
    return Marginals([None], counts, 0.0, several=embedder.counts_several)


def test_a_seeded_generator_draws_and_varies_by_what_was_measured(schema):
    known = [
        [event("admission"), event("surgery", "0-1"), event("discharge", "1-7")],
        [event("admission"), event("discharge", "7-30", "b", 90.0)],
    ]
    generator = generator_of(schema).seeded(measured(schema, known * 20))
    rngs = [keyed_rng(0, 0, row, "test") for row in range(60)]
    made = generator.random([None] * 60, rngs)
    step = Step(iteration=1, iterations=1, degree=1.0)
    varied = generator.vary(made.append_column("label", pa.nulls(60, pa.string())), step, rngs)
    for table in (made, varied):
        paths = {tuple(e["kind"] for e in row["events"]) for row in table.to_pylist()}
        assert paths == {("admission", "surgery", "discharge"), ("admission", "discharge")}
        assert {e["gap"] for row in table.to_pylist() for e in row["events"] if e["kind"] == "surgery"} == {"0-1"}
    assert 0 < sum(a != b for a, b in zip(made.to_pylist(), varied.to_pylist(), strict=True)) <= 60


def test_every_kind_of_edit_happens(schema):
    parents = drawn(schema, 200).append_column("label", pa.nulls(200, pa.string()))
    step = Step(iteration=1, iterations=1, degree=0.01)
    rngs = [keyed_rng(0, 1, row, "test") for row in range(200)]
    varied = generator_of(schema).vary(parents, step, rngs)
    old, new = (read_payload(table, schema) for table in (parents, varied))
    assert set(np.unique(new.lengths - old.lengths)) == {-1, 0, 1}
    still = generator_of(schema).vary(parents, Step(iteration=1, iterations=1, degree=0.0), rngs)
    assert still["events"].equals(parents["events"])


def test_shuffled_sequences_have_the_content_and_not_the_order(schema):
    one = [event("admission"), event("surgery", "0-1"), event("discharge", "1-7")]
    real = read_payload(payload(schema, *[one] * 50), schema)
    other = shuffle(real, np.random.default_rng(0))
    shares = [shares_of(each, schema) for each in (real, other)]
    assert tvd(shares[0]["kind"], shares[1]["kind"]) == tvd(shares[0]["length"], shares[1]["length"]) == 0
    assert tvd(transitions(real, schema), transitions(other, schema)) > 0.5
    alone = read_payload(payload(schema, [event("surgery")]), schema)
    assert tvd(transitions(alone, schema), transitions(real, schema)) == 1.0


def test_rows_of_an_export(schema):
    table = payload(schema, [event("admission"), event("discharge", "1-7")], [event("therapy")])
    found = unfold(table.append_column("group", pa.array(["g", "h"])), {"client": "patient", "kind": "visit"}, schema)
    assert found.to_pylist()[1] == {
        "patient": 1, "position": 2, "visit": "discharge", "gap": "1-7", "gap_middle": 4.0, "ward": "a", "cost": 1.0,
        "group": "g",
    }  # fmt: skip
    assert found["patient"].to_pylist() == [1, 1, 2] and found["gap_middle"].null_count == 2


def test_a_view_marks_what_changed_and_escapes(schema):
    view = modality_of(schema).view()
    parent = {"candidate_id": 1, "events": [event("admission"), event("surgery", "0-1")]}
    child = {"candidate_id": 2, "events": [event("admission"), event("therapy", "0-1", "<i>")]}
    shown = view.fragment(child, parent, large=True)
    assert "<mark>therapy</mark>" in shown and "<b>admission</b>" in shown and "<i>" not in shown
    assert "0-1 days" in shown and view.alt(child) == "sequence 2, 2 events: admission, therapy"


def test_a_report_says_what_follows_what(schema, monkeypatch):
    monkeypatch.setattr(charts, "draw", lambda *_, **__: Markup("<svg></svg>"))

    class History:
        last = 1

        def population(self, iteration, columns):
            return payload(schema, [event("admission"), event("surgery" if iteration else "discharge", "0-1")])

    [section] = modality_of(schema).view().sections(History())
    assert "admission → surgery" in section.body and "admission → discharge" in section.body
    assert section.body.index("surgery") < section.body.index("discharge")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"most": 0}, "most"),
        ({"gaps": {"unit": "days", "edges": [1, 2]}}, "0 first"),
        ({"gaps": {"unit": "number", "edges": [0, 2]}}, "gaps.unit"),
        ({"kind": {"values": ["a"], "missing": True}}, "kind"),
        ({"time": {"type": "boolean"}}, "time"),
        ({"attributes": {"gap": {"type": "boolean"}}}, "name of our own"),
    ],
)
def test_a_schema_refuses_what_cannot_be(change, words):
    with pytest.raises(ValueError, match=words):
        SequenceSchema.model_validate({**SCHEMA, **change})
