"""A small recurrent model over words, trained from random weights in at most about a minute on one core.

All draws come from the model's own generators, so that other threads' use of torch's generator changes nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

END, RARE = 0, 1
_WIDTH, _DROPOUT, _RATE = 64, 0.3, 5e-3
_PIECE = 128  # words; a longer text is used in pieces
_BATCH = 16  # pieces
_LEARNT_WORDS = 120_000  # largest number of different places in the samples
_SEEN_WORDS = 300_000  # in all passes together; bounds the time
_PASSES, _PATIENCE = 40, 2
_UNIFORM = 0.01  # share of a uniform distribution in every prediction, so that no word is impossible

Pieces = list[np.ndarray]


class WordModel:
    """A GRU with tied embeddings. A tenth of the samples decides when training stops.

    Args:
      texts: codes of each text's words, int64: 1 for a rare word, 2 and more for the others.
      size: number of codes, including the end (0).
      seed: seed of weights, order and dropout.
    """

    def __init__(self, texts: Sequence[np.ndarray], size: int, *, seed: int) -> None:
        self._draws = torch.Generator().manual_seed(seed % 2**63)
        rng = np.random.default_rng(seed)
        ordered = [texts[i] for i in rng.permutation(len(texts))]
        own = max(1, len(ordered) // 10)
        checked, learnt = _pieces(ordered[:own]), _bounded(_pieces(ordered[own:] or ordered))
        self._net = _Net(size, learnt, self._draws)
        self._learn(learnt, checked, rng)

    def measure(self, texts: Sequence[np.ndarray]) -> tuple[float, float]:
        """Returns the perplexity of words and ends, and the accuracy of guesses; a rare word counts as missed."""
        loss, right, count = 0.0, 0, 0
        self._net.eval()
        with torch.inference_mode():
            for given, asked in _batches(_pieces(texts), range(0), 4 * _BATCH):
                shares = torch.softmax(self._net(given, asked >= 0), dim=-1).double()
                wanted = asked[asked >= 0]
                own = shares.gather(1, wanted[:, None])[:, 0] * (1 - _UNIFORM) + _UNIFORM / shares.shape[1]
                loss -= float(own.log().sum())
                right += int(((shares.argmax(dim=-1) == wanted) & (wanted != RARE)).sum())
                count += len(wanted)
        return math.exp(loss / max(count, 1)), right / max(count, 1)

    def _learn(self, learnt: Pieces, checked: Pieces, rng: np.random.Generator) -> None:
        optimiser = torch.optim.AdamW(self._net.parameters(), lr=_RATE, weight_decay=0.02)
        best, kept, since, seen = math.inf, self._net.state_dict(), 0, 0
        size = max(1, min(_BATCH, len(learnt) // 8))
        for _ in range(_PASSES):
            self._net.train()
            for given, asked in _batches(learnt, rng.permutation(len(learnt)).tolist(), size):
                loss = nn.functional.cross_entropy(self._net(given, asked >= 0), asked[asked >= 0])
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self._net.parameters(), 1.0)
                optimiser.step()
                seen += int((asked >= 0).sum())
            found = self._loss(checked)
            since = 0 if found < best else since + 1
            if not since:
                best, kept = found, copy.deepcopy(self._net.state_dict())
            if since == _PATIENCE or seen >= _SEEN_WORDS:
                break
        self._net.load_state_dict(kept)

    def _loss(self, pieces: Pieces) -> float:
        self._net.eval()
        total, count = 0.0, 0
        with torch.inference_mode():
            for given, asked in _batches(pieces, range(0), 4 * _BATCH):
                wanted = asked[asked >= 0]
                total += float(nn.functional.cross_entropy(self._net(given, asked >= 0), wanted, reduction="sum"))
                count += len(wanted)
        return total / max(count, 1)


class _Net(nn.Module):
    def __init__(self, size: int, learnt: Pieces, draws: torch.Generator) -> None:
        super().__init__()
        self._draws = draws
        # On "meta" nothing is drawn: the layers' own initial weights would come from torch's global generator.
        self.embed = nn.Embedding(size, _WIDTH, device="meta")
        self.memory = nn.GRU(_WIDTH, _WIDTH, batch_first=True, device="meta")
        self.bias = nn.Parameter(torch.zeros(size, device="meta"))
        self.to_empty(device="cpu")
        with torch.no_grad():
            for weights in self.parameters():
                weights.normal_(std=0.05, generator=draws)
            # The bias begins with the words' shares.
            counts = np.bincount(np.concatenate([piece[1:] for piece in learnt]), minlength=size)
            self.bias.copy_(torch.from_numpy(np.log(counts + 0.5) - math.log(counts.sum() + 0.5 * size)))

    def forward(self, given: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Returns scores (n, size) of the next word at the n places that are asked for."""
        said, _ = self.memory(self._dropped(self.embed(given)))
        return self._dropped(said[places]) @ self.embed.weight.T + self.bias

    def _dropped(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return values
        keep = torch.rand(values.shape, generator=self._draws) >= _DROPOUT
        return values * keep / (1 - _DROPOUT)


def _pieces(texts: Sequence[np.ndarray]) -> Pieces:
    """Cuts texts into runs of at most _PIECE + 1 codes. Each word and each end follows another code exactly once."""
    whole = [np.concatenate([[END], text, [END]]) for text in texts]
    return [one[at : at + _PIECE + 1] for one in whole for at in range(0, len(one) - 1, _PIECE)]


def _bounded(pieces: Pieces) -> Pieces:
    ends = np.cumsum([len(piece) - 1 for piece in pieces])
    return pieces[: max(1, int(np.searchsorted(ends, _LEARNT_WORDS, "right")))]


def _batches(pieces: Pieces, order: Sequence[int], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields codes, int64 (b, t), and the codes to predict, -1 where there is none; empty order: by length."""
    places = list(order) or sorted(range(len(pieces)), key=lambda place: (len(pieces[place]), place))
    for at in range(0, len(places), size):
        own = [pieces[place] for place in places[at : at + size]]
        padded = np.full((len(own), max(map(len, own))), -1, dtype=np.int64)
        for row, piece in enumerate(own):
            padded[row, : len(piece)] = piece
        table = torch.from_numpy(padded)
        yield table[:, :-1].clamp_min(END), table[:, 1:]
