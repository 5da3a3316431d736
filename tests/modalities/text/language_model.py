"""A small language model, trained on public text in about a minute and served over HTTP with the OpenAI protocol.

A recurrent network over words. It knows nothing of labels: which kind of text a candidate becomes is decided by votes
alone. Asked to fill in blanks it draws each word by what stands before it and how well the next known word follows.

`python -m tests.modalities.text.language_model train TEXTS MODEL`, then `... serve MODEL --port 0 --log LOG`.
"""

from __future__ import annotations

import collections
import functools
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.modalities.text import server

_TOKEN = re.compile(r"[a-z]+(?:['’][a-z]+)?|\d+|_|[^\w\s]", re.IGNORECASE)
END, UNKNOWN = 0, 1
_CANDIDATES = 24


def words_of(text: str) -> list[str]:
    return [token.lower() for token in _TOKEN.findall(text)]


def text_of(words: list[str]) -> str:
    """Words and signs as text again: a space before words, none before closing signs."""
    text = ""
    for word in words:
        glue = "" if not text or word in ".,;:!?)%'" or text[-1:] in "($#@" else " "
        text += glue + word
    return text


class Model(torch.nn.Module):
    """Words in, scores of the next word out."""

    def __init__(self, words: list[str], width: int = 160) -> None:
        super().__init__()
        self.words = words
        self.place = {word: i for i, word in enumerate(words)}
        self.embed = torch.nn.Embedding(len(words), width)
        self.memory = torch.nn.GRU(width, width, batch_first=True)
        self.drop = torch.nn.Dropout(0.1)
        self.score = torch.nn.Linear(width, len(words))
        self.score.weight = self.embed.weight
        torch.nn.init.normal_(self.embed.weight, std=0.05)

    def forward(self, tokens: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        out, state = self.memory(self.drop(self.embed(tokens)), state)
        return self.score(self.drop(out)), state

    def codes(self, words: list[str]) -> list[int]:
        return [self.place.get(word, UNKNOWN) for word in words]


def train(texts: list[str], *, steps: int = 200, width: int = 160, least: int = 6) -> Model:
    """Trains; the more steps, the better. By steps, not by time: a busy machine makes no worse model."""
    torch.manual_seed(0)
    own = [words_of(text)[:40] for text in texts]
    counts = collections.Counter(word for words in own for word in words)
    known = sorted(word for word, count in counts.items() if count >= least and word != "_")
    model = Model(["<end>", "<unknown>", *known], width)
    coded = [torch.tensor([END, *model.codes(words), END]) for words in own if words]
    coded.sort(key=len)
    batches = [
        torch.nn.utils.rnn.pad_sequence(coded[i : i + 64], batch_first=True, padding_value=-1)
        for i in range(0, len(coded), 64)
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.02)
    rng = np.random.default_rng(0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 6e-3 * max(1 - step / steps, 0.05)
        batch = batches[int(rng.integers(len(batches)))]
        scores, _ = model(batch[:, :-1].clamp_min(0))
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def save(model: Model, path: Path) -> None:
    """Weights and words in open formats."""
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    np.savez(path, words=np.array(json.dumps(model.words)), width=model.embed.embedding_dim, **arrays)


def load(path: Path) -> Model:
    with np.load(path) as found:
        model = Model(json.loads(str(found["words"])), int(found["width"]))
        names = model.state_dict().keys()
        model.load_state_dict({name: torch.from_numpy(found[name]) for name in names})
    return model.eval()


class Writer:
    """Draws texts from a model, as a request says: temperature, most tokens, seed."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __call__(self, request: dict[str, Any]) -> str:
        prompt = request["messages"][-1]["content"]
        rng = np.random.default_rng(request["seed"])
        heat = float(request["temperature"])
        masked = prompt.partition("Text: ")[2]
        with torch.inference_mode():
            words = self._fill(words_of(masked), heat, rng) if masked else self._write(request["max_tokens"], heat, rng)
        return text_of(words)

    def _write(self, limit: int, heat: float, rng: np.random.Generator) -> list[str]:
        words: list[str] = []
        code, state = END, None
        while len(words) < limit:
            scores, state = self._model(torch.tensor([[code]]), state)
            code = _draw(_scored(scores[0, 0], heat, first=not words), rng)
            if code == END:
                break
            words.append(self._model.words[code])
        return words

    def _fill(self, words: list[str], heat: float, rng: np.random.Generator) -> list[str]:
        filled: list[str] = []
        scores, state = self._model(torch.tensor([[END]]))
        for place, word in enumerate(words):
            if word == "_":
                code = self._fitting(scores[0, 0], state, words[place + 1 : place + 2], heat, rng)
            else:
                code = self._model.place.get(word, UNKNOWN)
            filled.append(self._model.words[code] if word == "_" else word)
            scores, state = self._model(torch.tensor([[code]]), state)
        return filled

    def _fitting(
        self, scores: torch.Tensor, state: torch.Tensor, after: list[str], heat: float, rng: np.random.Generator
    ) -> int:
        """A word by what stands before it and, where the next word is known, by how well that follows."""
        scores = _scored(scores, heat, first=True)
        if not after or after == ["_"]:
            return _draw(scores, rng)
        best = torch.topk(scores, _CANDIDATES)
        following, _ = self._model(best.indices[:, None], state.expand(-1, _CANDIDATES, -1).contiguous())
        fit = torch.log_softmax(following[:, 0], dim=-1)[:, self._model.place.get(after[0], UNKNOWN)]
        return int(best.indices[_draw(best.values + fit / heat, rng)])


def _scored(scores: torch.Tensor, heat: float, *, first: bool) -> torch.Tensor:
    scores = scores / heat
    scores[UNKNOWN] = -torch.inf
    if first:
        scores[END] = -torch.inf
    return scores


def _draw(scores: torch.Tensor, rng: np.random.Generator) -> int:
    return int((scores + torch.from_numpy(rng.gumbel(size=len(scores)).astype(np.float32))).argmax())


def main(argv: list[str]) -> None:
    torch.set_num_threads(1)
    if argv[0] == "train":
        save(train(json.loads(Path(argv[1]).read_text()), steps=int(argv[3])), Path(argv[2]))
    else:
        server.main(argv[2:], functools.partial(lambda path: Writer(load(path)), Path(argv[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
