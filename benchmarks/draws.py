"""Keyed draws of the back end `huggingface` on this CPU against what they were before, and against plain sampling.

    python benchmarks/draws.py [--toy]

Before, each row drew Gumbel noise from a generator of its own, row by row: `RowByRow` is that, kept for the comparison.
Times are of whole `generate` calls of a small GPT-2; the three take turns, so that a busy machine is fair to all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

from pe_beam.modalities.text.client import Ask
from pe_beam.modalities.text.huggingface import _processors


class RowByRow(LogitsProcessor):
    """How draws were made until they were made for all rows at once."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        """Takes what each row is drawn by."""
        self._asks = asks
        self._streams = [torch.Generator().manual_seed(ask.seed) for ask in asks]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores whose largest is the draw."""
        drawn = scores.clone()
        for row, ask in enumerate(self._asks):
            kept = scores[row] / ask.temperature
            if ask.top_p < 1:
                ordered, places = torch.sort(kept, descending=True)
                before = torch.cumsum(torch.softmax(ordered, dim=-1), dim=-1) - torch.softmax(ordered, dim=-1)
                kept = kept.index_fill(0, places[before >= ask.top_p], float("-inf"))
            uniform = torch.rand(kept.shape, generator=self._streams[row]).clamp_min(1e-20)
            drawn[row] = kept - torch.log(-torch.log(uniform))
        return drawn


def measure(*, rows: int, tokens: int, steps: int, top_p: float, rounds: int) -> None:
    """Prints medians of wall clock and of this process's own time."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokens, n_positions=128, n_embd=64, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1
    )
    model = GPT2LMHeadModel(config).eval()
    given = torch.randint(0, tokens, (rows, 16))
    about = {"input_ids": given, "attention_mask": torch.ones_like(given), "pad_token_id": 0}
    about |= {"max_new_tokens": steps, "min_new_tokens": steps}
    asks = [Ask(row=i, messages=(), temperature=0.9, top_p=top_p, max_tokens=steps, seed=i) for i in range(rows)]
    keyed = {"do_sample": False, "num_beams": 1}
    ways: dict[str, Any] = {
        "keyed": lambda: keyed | {"logits_processor": _processors(asks, top_k=0, length=16, steps=steps)},
        "row by row": lambda: keyed | {"logits_processor": LogitsProcessorList([RowByRow(asks)])},
        "plain": lambda: {"do_sample": True, "temperature": 0.9, "top_p": top_p, "top_k": 0},
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, way in ways.items():
                wall, own = time.perf_counter(), time.process_time()
                model.generate(**about, **way())
                spent[name].append((time.perf_counter() - wall, time.process_time() - own))
    medians = {name: np.median(np.array(each[1:]), axis=0) for name, each in spent.items()}
    told = ", ".join(f"{name} {wall:.2f} s ({own:.2f} s of CPU)" for name, (wall, own) in medians.items())
    print(f"batch {rows}, vocabulary {tokens:,}, {steps} tokens, top_p {top_p}: {told}")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="tiny, to see that the script works")
    toy = parser.parse_args(argv).toy
    shapes = [(3, 100, 2)] if toy else [(16, 500, 32), (16, 50_257, 16), (16, 151_936, 8)]
    for rows, tokens, steps in shapes:
        for top_p in (1.0, 0.9):
            measure(rows=rows, tokens=tokens, steps=steps, top_p=top_p, rounds=1 if toy else 5)


if __name__ == "__main__":
    main()
