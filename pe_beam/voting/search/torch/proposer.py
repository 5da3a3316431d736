"""The engine."""

from __future__ import annotations

import contextlib
import threading
import warnings

import numpy as np
import torch

from pe_beam.contracts.search import Frame, Pairs
from pe_beam.errors import PeBeamWarning
from pe_beam.voting.search.blas import BlasProposer
from pe_beam.voting.search.torch.devices import Setting, find_setting, forbid_short_sums, share_threads
from pe_beam.voting.search.torch.groups import Sides, groups_of, width
from pe_beam.voting.search.torch.lane import on_host, uploaded
from pe_beam.voting.search.torch.precision import Precision
from pe_beam.voting.search.torch.probe import honest
from pe_beam.voting.search.torch.refine import Refiner
from pe_beam.voting.search.torch.scan import Found
from pe_beam.voting.search.torch.search import GroupSearch, Proposal


class TorchProposer:
    """Proposes by half-precision products on the best device of this machine.

    Args:
      frame: the candidates.
      votes: number of nearest candidates that each query asks for.
      tile: candidates at a time on a CPU; other devices have their own number.
      setting: what to work with; the best of this machine if it is None.

    Attributes:
      precision: the format of the products; None if none passed the probe, and `blas` answers.
      block: number of queries that `propose` likes to be given at a time.
      rows: number of queries that are multiplied at a time.
    """

    def __init__(self, frame: Frame, *, votes: int, tile: int, setting: Setting | None = None) -> None:
        self._setting = setting = setting or find_setting()
        self._frame, self._votes = frame, votes
        self.block, self.rows = setting.block, setting.rows
        forbid_short_sums(setting.device)
        if setting.device.type == "cpu":
            share_threads()
        self.precision = _choose(setting, width(frame.vectors.shape[1]))
        self._blas = BlasProposer(frame, votes=votes, tile=tile) if self.precision is None else None
        if self.precision is None:
            return
        columns = min(tile, setting.columns) if setting.scan == "host" else setting.columns
        self._rounding = self.precision.rounding
        self._searches = []
        budget = setting.budget
        for group in groups_of(frame.norms, self.precision.span):
            sides = Sides(frame, group, self.precision)
            self._searches.append(GroupSearch(sides, votes=votes, columns=columns, setting=setting, budget=budget))
            budget -= self._searches[-1].resident_bytes
        fits = frame.vectors.nbytes <= budget
        self._refiner = Refiner(frame, votes, setting.device) if setting.refine and fits else None
        # A CPU's threads have buffers of their own; one device does one thing at a time.
        self._turn = contextlib.nullcontext() if setting.device.type == "cpu" else threading.Lock()

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        if self._blas is not None:
            return self._blas.propose(placed, radii)
        device, rows = self._setting.device, self._setting.rows
        # Before its turn: the vectors of one thread are copied while the device works for another.
        blocks = list(uploaded(placed, rows, device) if self._setting.streams else [on_host(placed).to(device)])
        with self._turn:
            wide = device if device.type != "mps" else torch.device("cpu")  # MPS has no float64
            found = self.propose_blocks(blocks, on_host(radii).to(wide))
        if found is None:
            return None
        return Pairs(found.rows.cpu().numpy(), found.columns.cpu().numpy())

    def propose_blocks(self, blocks: list[torch.Tensor], radii: torch.Tensor) -> Found | None:
        """Does the same with queries that are on the device.

        Args:
          blocks: queries in order, float32 (., d) each.
          radii: norms of all of them, float64 (n,), on the device too if it has float64.
        """
        forbid_short_sums(self._setting.device)
        proposals = []
        for search in self._searches:
            proposal = search.search(blocks, radii)
            if proposal is None:
                return None
            proposals.append(proposal)
        found = proposals[0].found if len(proposals) == 1 else _merged(proposals, self._rounding, self._votes)
        if self._refiner is None:
            return found
        return self._refiner.refine(found, torch.cat(blocks), radii)


def _merged(proposals: list[Proposal], rounding: float, votes: int) -> Found:
    """Returns the pairs of several groups that may win against those of all groups, in the order of rows."""
    lowers, uppers = [], []
    for each in proposals:
        unit = each.unit.cpu().numpy()
        margin = each.margin.cpu().numpy().astype(np.float64) / 2
        shift = each.shift.cpu().numpy().astype(np.float64)
        lowers.append((each.lows.cpu().numpy().astype(np.float64) + shift - margin) / unit)
        values, rows = each.found.values.cpu().numpy().astype(np.float64), each.found.rows.cpu().numpy()
        uppers.append((values + rounding * np.abs(values) + (shift + margin)[rows]) / unit[rows])
    floor = -np.partition(-np.concatenate(lowers), votes - 1, axis=0)[votes - 1]
    floor -= 2.0**-40 * np.abs(floor)
    rows, columns, values = (
        torch.cat(parts)
        for parts in zip(*((each.found.rows, each.found.columns, each.found.values) for each in proposals), strict=True)
    )
    wins = torch.from_numpy(np.concatenate(uppers) >= floor[rows.cpu().numpy()]).to(rows.device)
    order = torch.argsort(rows[wins], stable=True)
    return Found(rows[wins][order], columns[wins][order], values[wins][order])


def _choose(setting: Setting, length: int) -> Precision | None:
    """Returns the first format that passes the probe, and says so aloud where it is not the first one."""
    shapes = ((setting.rows, min(setting.columns, 8192)), (16, 256))
    for precision in setting.precisions:
        if precision.term * length <= 0.01 and honest(setting.device, precision, length, setting.multiply, shapes):
            return precision
        warnings.warn(
            f"execution.search_engine: torch: sums of {length} {precision.name} products on {setting.device.type} are "
            "not as exact as the bound assumes; a slower product is used",
            PeBeamWarning,
            stacklevel=2,
        )
    return None
