"""A pretrained causal language model that is tuned on samples and measured on held-out texts, in its own tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pe_beam.modalities.loading import demand_all, loading

_TOKENS = 256  # of a text, at most
_BATCH, _PASSES, _RATE = 8, 3, 5e-5


class TunedModel:
    """A model that the user names: a folder, or a name at the hub.

    Raises:
      RecipeError: the model cannot be loaded, or weights of it are missing.
    """

    def __init__(self, name: str) -> None:
        folder, faults = "a folder with a causal model and its tokenizer", (OSError, ValueError, KeyError, TypeError)
        named = {"by": "transformers", "part": "language_model:", "extra": "text", "folder": folder}
        with loading("language_model", name, **named, faults=faults):
            self._tokenizer = AutoTokenizer.from_pretrained(name)
            model, told = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        demand_all(told, "language_model", name)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        # Never in training mode: dropout would draw from torch's global generator. Three passes need no dropout.
        self._model = model.to(self._device).eval()
        most = getattr(model.config, "max_position_embeddings", None) or _TOKENS
        self._most = min(_TOKENS, int(most))

    def tune(self, texts: Sequence[str], *, seed: int) -> None:
        """Tunes the model by three passes of AdamW. The learning rate falls to 0. The seed gives the order of texts."""
        coded = self._coded(texts)
        rng = np.random.default_rng(seed)
        order = [place for _ in range(_PASSES) for place in rng.permutation(len(coded)).tolist()]
        optimiser = torch.optim.AdamW(self._model.parameters(), lr=_RATE)
        steps = -(-len(order) // _BATCH)
        for step, (given, mask, asked) in enumerate(self._batches([coded[place] for place in order])):
            optimiser.param_groups[0]["lr"] = _RATE * (1 - step / steps)
            scores = self._model(input_ids=given, attention_mask=mask).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), asked.flatten(), ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            optimiser.step()

    def measure(self, texts: Sequence[str]) -> tuple[float, float]:
        """Returns the perplexity of tokens, and the share of tokens that are the model's likeliest guess."""
        loss, right, count = 0.0, 0, 0
        with torch.inference_mode():
            for given, mask, asked in self._batches(self._coded(texts)):
                scores = self._model(input_ids=given, attention_mask=mask).logits[:, :-1][asked >= 0].float()
                wanted = asked[asked >= 0]
                loss += float(torch.nn.functional.cross_entropy(scores, wanted, reduction="sum"))
                right += int((scores.argmax(dim=-1) == wanted).sum())
                count += len(wanted)
        return math.exp(min(loss / max(count, 1), 700.0)), right / max(count, 1)

    def _coded(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of texts, with the tokenizer's beginning and end. Leaves out texts of a single token."""
        first = self._tokenizer.bos_token_id if self._tokenizer.bos_token_id is not None else self._end
        found = []
        for text in texts:
            codes = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            around = [[code] if code is not None else [] for code in (first, self._end)]
            found.append([*around[0], *codes, *around[1]][: self._most])
        return [codes for codes in found if len(codes) > 1]

    @property
    def _end(self) -> int | None:
        return self._tokenizer.eos_token_id

    def _batches(self, coded: Sequence[list[int]]) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yields tokens (b, t), their mask, and the tokens to predict (b, t - 1), -1 where there is none."""
        for at in range(0, len(coded), _BATCH):
            own = coded[at : at + _BATCH]
            table = torch.full((len(own), max(map(len, own))), -1, dtype=torch.int64)
            for row, codes in enumerate(own):
                table[row, : len(codes)] = torch.tensor(codes)
            table = table.to(self._device)
            yield table.clamp_min(0), (table >= 0).long(), table[:, 1:]
