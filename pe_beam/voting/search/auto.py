"""Engine `auto`: tries the engines that are there on the candidates themselves, and takes the fastest.

Some candidates are left out and asked about the others, because a gain may depend on how candidates lie to one another,
which synthetic vectors would not show. Candidates are public, so the choice depends on nothing private: not on
records, nor on their number. It is made once a process for each shape. Votes are the same with every engine.
"""

from __future__ import annotations

import platform
import sys
import threading
import time
from pathlib import Path

import numpy as np

from pe_beam import registry
from pe_beam.contracts.search import USUAL_BLOCK, Frame, Pairs, Proposer, block_of, one_thread_of
from pe_beam.errors import PeBeamError
from pe_beam.voting.search.cpu import multiplies_bfloat16, multiplies_integers, multiplies_tiles
from pe_beam.voting.threads import allowed_threads, side_by_side

PLAIN = "blas"
"""The engine that is always there."""
_TRIED = ("blas", "faiss", "int8", "prefix", "torch")  # one of a third party, which may be slow without end, is not
_SMALL = 1 << 18  # numbers in a matrix up to which no trial pays
_LARGE = 1 << 20  # and from which it may pay to import torch, which takes seconds and half a gigabyte
_LONG = 1 << 38  # products of numbers, from which it may: some seconds of `blas`
_ASKED, _MOST = USUAL_BLOCK, 8192  # candidates that are asked for each thread, and at most asked about
_WARM = 4  # share of them that are asked first: a new proposer's first answer takes longer
_OTHERS = 8  # of so many candidates one is asked about the others
_TURNS = 7
_HOPELESS = 1.5  # times the best time: an engine that was not faster in any of two turns is left out of the others
_CLEARLY = 0.96  # share of the time of `blas` below which another engine is taken: a tie stays a tie in each process
_DEVICES = ("/dev/nvidiactl", "/dev/kfd")  # CUDA, ROCm

_lock = threading.Lock()
_taken: dict[tuple[int, int, int, bool, bool], str] = {}


class AutoProposer:
    """The proposer of the fastest engine for these candidates. Arguments as in `SearchEngine`.

    Attributes:
      taken: name of that engine.
      block: number of queries that it likes to be given at a time.
      one_thread: whether it likes several blocks side by side.
    """

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        self.taken = fastest_engine(frame.vectors, votes=votes, product=frame.product)
        engine = registry.find("search_engines", self.taken, key="execution.search_engine")
        self._proposer: Proposer = engine(frame, votes=votes, tile=tile)
        self.block = block_of(self._proposer)
        self.one_thread = one_thread_of(self._proposer)

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        return self._proposer.propose(placed, radii)


def fastest_engine(vectors: np.ndarray, *, votes: int, product: bool, queries: int | None = None) -> str:
    """Returns the name of the fastest engine for candidates of this shape, measured once a process.

    Args:
      vectors: float32 (m, d), candidates, or candidates moved by a constant. At most 8,448 of them are read.
      votes: number of nearest candidates that each query asks for.
      product: whether scores are inner products.
      queries: about how many are to come, by a public guess. If they are soon answered, torch is not imported for them.
    """
    if vectors.size <= _SMALL:
        return PLAIN
    long = vectors.size >= _LARGE and (queries is None or queries * vectors.size >= _LONG)
    shape = (*vectors.shape, votes, product, long)
    with _lock:
        if shape not in _taken:
            _taken[shape] = _measured(vectors, votes=votes, product=product, long=long)
        return _taken[shape]


def _measured(vectors: np.ndarray, *, votes: int, product: bool, long: bool) -> str:
    wanted = _ASKED * allowed_threads()
    some = vectors[:: -(-len(vectors) // (_MOST + wanted))]
    asked = np.zeros(len(some), dtype=bool)
    asked[:: max(_OTHERS, -(-len(some) // wanted))] = True
    frame = Frame.of(some[~asked], product=product)
    placed, radii = frame.place(np.resize(some[asked], (wanted, some.shape[1])))  # few are asked again and again
    if votes > len(frame.vectors) or not frame.safe(radii).all():
        return PLAIN
    proposers: dict[str, Proposer] = {}
    for name in _there(long=long):
        try:
            engine = registry.find("search_engines", name, key="execution.search_engine")
            proposers[name] = engine(frame, votes=votes, tile=4096)
            _ask(proposers[name], placed[: wanted // _WARM], radii[: wanted // _WARM])
        except PeBeamError:  # its package or its device is missing
            proposers.pop(name, None)
    times = _times(proposers, placed, radii)
    best = min(times, key=times.__getitem__)
    return best if times[best] < _CLEARLY * times[PLAIN] else PLAIN


def _times(proposers: dict[str, Proposer], placed: np.ndarray, radii: np.ndarray) -> dict[str, float]:
    """Returns the second best seconds of each proposer: one turn may be lucky, and many may meet other load.

    They are asked in turn, so that load meets all of them, and until only one is left that is not hopeless. That one
    has three turns at least: the second best of two is the slower one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in proposers}
    racing = list(proposers)
    for turn in range(_TURNS):
        for name in racing:
            began = time.perf_counter()
            _ask(proposers[name], placed, radii)
            seconds[name].append(time.perf_counter() - began)
        if turn >= 1:
            limit = _HOPELESS * min(min(seconds[name]) for name in racing)
            racing = [name for name in racing if min(seconds[name]) <= limit]
            if len(racing) == 1 and turn >= 2:
                break
    return {name: sorted(each)[1] for name, each in seconds.items()}


def _ask(proposer: Proposer, placed: np.ndarray, radii: np.ndarray) -> None:
    """Asks as a search does: blocks side by side, if the engine likes that."""
    threads = allowed_threads() if one_thread_of(proposer) else 1
    step = -(-len(placed) // threads)
    parts = [slice(start, start + step) for start in range(0, len(placed), step)]
    side_by_side(lambda part: proposer.propose(placed[part], radii[part]), parts)


def _there(*, long: bool) -> list[str]:
    """Returns the engines that may be tried; `long`: for a search that takes long enough to import torch for it."""
    known = registry.names("search_engines")
    torch = long or "torch" in sys.modules
    halves = multiplies_bfloat16() and (multiplies_tiles() or not multiplies_integers())  # VNNI is twice as fast
    may_pay = {"torch": torch and (halves or _device()), "int8": torch and multiplies_integers()}
    return [name for name in _TRIED if name in known and may_pay.get(name, True)]


def _device() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return any(Path(device).exists() for device in _DEVICES)
