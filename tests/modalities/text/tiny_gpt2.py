"""A GPT-2 of two layers over a vocabulary of words, with random weights, saved in the library's own format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CHAT = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def save_tiny_gpt2(folder: Path, words: Iterable[str], *, positions: int = 64) -> str:
    """Returns the folder, which then is what a user's model would be."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["<end>", "<unk>", *dict.fromkeys(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", bos_token="<end>", unk_token="<unk>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=positions,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)
