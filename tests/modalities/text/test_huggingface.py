"""Back end `huggingface`: a real model in the library's own format, made here, loaded as a user's model is."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pe_beam.contracts.generator import Chunk, Step
from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.text import MODALITY
from pe_beam.modalities.text.client import Answer, Ask
from pe_beam.modalities.text.huggingface import HuggingFaceClient, _loaded
from pe_beam.modalities.text.llm import Llm
from pe_beam.modalities.text.options import LlmOptions
from pe_beam.services.journal import Journal
from pe_beam.storage import open_folder
from pe_beam.testing import check_generator
from tests.modalities.text.server import WORDS
from tests.modalities.text.tiny_gpt2 import save_tiny_gpt2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_gpt2(tmp_path_factory.mktemp("model"), WORDS)


def _options(folder, **changes):
    plain = {
        "backend": "huggingface",
        "model": folder,
        "random": {"user": "the good {label}", "sampling": {"max_tokens": 12}},
        "vary": {"user": "{sample}", "sampling": {"max_tokens": 12}},
        "local": {"batch_size": 5},
    }
    return LlmOptions.model_validate(plain | changes)


def _ask(row, seed, **changes):
    told = {"messages": (("prompt", "the room was"),), "temperature": 1.0, "top_p": 1.0, "max_tokens": 8} | changes
    return Ask(row=row, seed=seed, **told)


def _answers(client, asks):
    found = {}
    client.answer_all(asks, lambda ask, answer: found.update({ask.row: answer}), Journal(None))
    return [found[row] for row in sorted(found)]


@pytest.mark.parametrize("changes", [{}, {"format": "completion"}])
def test_the_contract_of_generators(folder, changes):
    """Also that a row does not depend on its batch: it draws by its own seed."""
    generator = Llm(_options(folder, **changes), labels=["soup", "room"])
    assert not generator.remote
    generator.ready()
    check_generator(generator, MODALITY, labels=["soup", "room"])


def test_draws_follow_the_softmax(folder):
    """First words of 3,000 draws against the model's own probabilities (chi-square, false alarm 1e-6)."""
    from scipy.stats import chisquare

    client = HuggingFaceClient(_options(folder, format="completion", local={"batch_size": 500}))
    tokenizer, model = client._load()
    with torch.inference_mode():
        scores = model(
            **{k: v for k, v in tokenizer("the room was", return_tensors="pt").items() if k != "token_type_ids"}
        )
    wanted = torch.softmax(scores.logits[0, -1].double() / 0.7, dim=-1).numpy()
    asks = [_ask(i, i, temperature=0.7, max_tokens=1) for i in range(3000)]
    words = [answer.text.strip() for answer in _answers(client, asks)]
    seen = np.array([words.count(tokenizer.convert_ids_to_tokens(i)) for i in range(2, len(wanted))])
    special = len(words) - seen.sum()  # the end and the unknown word, which decode to nothing
    expected = np.append(wanted[2:], wanted[:2].sum()) * len(words)
    assert chisquare(np.append(seen, special), expected).pvalue > 1e-6


def test_greedy_narrow_and_long(folder):
    client = HuggingFaceClient(_options(folder, format="completion"))
    greedy = _answers(client, [_ask(i, i, temperature=0.0) for i in range(3)])
    narrow = _answers(client, [_ask(i, i, top_p=1e-6) for i in range(3)])
    assert len({answer.text for answer in greedy + narrow}) == 1
    long = (("prompt", "the " * 80),)
    mixed = _answers(client, [_ask(0, 1), _ask(1, 1, messages=long), _ask(2, 2)])
    assert mixed[1] == Answer("", "too long")
    assert mixed[0].finish in ("stop", "length") and mixed[2].text != mixed[0].text


def test_a_journal_spares_the_model_what_it_has_said(folder, tmp_path, monkeypatch):
    chunk = Chunk(journal=open_folder(tmp_path / "j"))
    rngs = [keyed_rng(0, 0, i, "random") for i in range(7)]
    first = Llm(_options(folder), labels=["a"]).random(["a"] * 7, rngs, chunk=chunk)
    monkeypatch.setattr(HuggingFaceClient, "_answer", lambda *_: pytest.fail("asked again"))
    rngs = [keyed_rng(0, 0, i, "random") for i in range(7)]
    assert Llm(_options(folder), labels=["a"]).random(["a"] * 7, rngs, chunk=chunk).equals(first)


def test_a_model_that_is_not_there_is_named(tmp_path):
    generator = Llm(_options(str(tmp_path)), labels=["a"])
    with pytest.raises(RecipeError, match=r"generator\.model: .* cannot be loaded"):
        generator.ready()
    step = Step(iteration=1, iterations=1, degree=0.5)
    with pytest.raises(RecipeError, match="cannot be loaded"):
        generator.vary(pa.table({"text": ["x"], "label": ["a"], "state": [None]}), step, [np.random.default_rng(0)])


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("model.safetensors", r"has no weights; \.safetensors or \.bin is wanted"),
        ("tokenizer*", "has no vocabulary; the files of its tokenizer are wanted"),
        (None, r"model\.safetensors of .* is cut short or damaged; fetch it again"),
    ],
)
def test_a_model_that_is_not_whole_is_named_before_anything_is_read(folder, tmp_path, lost, said):
    own = Path(shutil.copytree(folder, tmp_path / "model"))
    for file in own.glob(lost) if lost else ():
        if file.is_file():
            file.unlink()
    if lost is None:
        os.truncate(own / "model.safetensors", 2000)
    with pytest.raises(RecipeError, match=rf"generator\.model: .*{said}"):
        Llm(_options(str(own)), labels=["a"]).ready()


def test_weights_of_another_name_are_no_weights(folder, tmp_path):
    """As torch saves a model that was trained on several GPUs: the library warns, and writes by chance."""
    own = Path(shutil.copytree(folder, tmp_path / "model"))
    weights = load_file(own / "model.safetensors")
    save_file({f"module.{name}": value for name, value in weights.items()}, own / "model.safetensors", {"format": "pt"})
    client = HuggingFaceClient(_options(str(own)))
    for act in (client.ready, client._load):
        with pytest.raises(RecipeError, match=r"generator\.model: the weights of .* do not fit its config\.json"):
            act()


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_a_model_that_is_placed_by_accelerate_draws_the_same(folder, device_map, monkeypatch):
    from transformers import AutoModelForCausalLM

    found, told, real = [], [], AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *a, **k: (told.append(k), real(*a, **k))[1])
    _loaded.cache_clear()
    for local in ({}, {"device_map": device_map}):
        client = HuggingFaceClient(_options(folder, format="completion", local=local))
        client.ready()
        found.append(_answers(client, [_ask(i, i) for i in range(3)]))
    assert found[0] == found[1]
    assert [each.get("device_map") for each in told] == ["meta", None, "meta", device_map]


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_few_bits(folder, bits):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="weights of few bits were NOT tested: no bitsandbytes")
    client = HuggingFaceClient(_options(folder, format="completion", local={"bits": bits}))
    client.ready()
    _, model = client._load()
    kind = {4: bitsandbytes.nn.Linear4bit, 8: bitsandbytes.nn.Linear8bitLt}[bits]
    assert isinstance(model.transformer.h[0].mlp.c_fc, kind)
    assert all(answer.finish in ("stop", "length") for answer in _answers(client, [_ask(i, i) for i in range(2)]))


@pytest.mark.parametrize(
    ("local", "missing", "said"),
    [
        ({"device_map": "auto"}, "accelerate", r"local\.device_map: .*'accelerate'"),
        ({"bits": 4}, "accelerate", r"local\.bits: .*'accelerate'"),
        ({"bits": 8}, "bitsandbytes", r"local\.bits: .*'bitsandbytes'"),
    ],
)
def test_packages_that_placing_needs_are_named_before_anything_is_spent(folder, monkeypatch, local, missing, said):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else object())
    with pytest.raises(MissingExtraError, match=rf"generator\.{said}; install pe_beam\[text,gpu\]"):
        HuggingFaceClient(_options(folder, local=local)).ready()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named(folder):
    client = HuggingFaceClient(_options(folder, format="completion", local={"device_map": "cuda:7"}))
    with pytest.raises(RecipeError, match=r"generator\.local: .*device_map 'cuda:7'"):
        client._load()
    with pytest.raises(ValueError, match="device_map"):
        _options(folder, local={"device_map": "everywhere"})
    with pytest.raises(ValueError, match="bits"):
        _options(folder, local={"bits": 5})


def test_threads_load_each_model_once_and_one_at_a_time(folder, tmp_path, monkeypatch):
    """Workers of one process begin at once. Each would load gigabytes of its own, and weights would be lost."""
    other = save_tiny_gpt2(tmp_path, WORDS)
    loads, now = [], []
    real = AutoModelForCausalLM.from_pretrained

    def slow(model, **options):
        now.append(model)
        loads.append(len(now))
        time.sleep(0.2)
        made = real(model, **options)
        now.remove(model)
        return made

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", slow)
    _loaded.cache_clear()
    with ThreadPoolExecutor(4) as threads:
        clients = [HuggingFaceClient(_options(name)) for name in (folder, other) * 2]
        found = list(threads.map(lambda client: _answers(client, [_ask(0, 7)]), clients))
    assert loads == [1, 1]
    assert found[:2] == found[2:]
