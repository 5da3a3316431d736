"""LabelBlocks: every record once, in blocks of one label, in bounded memory, whatever the batches."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.voting.blocks import Block, LabelBlocks
from pe_beam.voting.votes import CandidateMatrix, Voter


def blocks_of(blocks: LabelBlocks, labels: np.ndarray, cuts: list[int], *, clients: bool) -> list[Block]:
    """All blocks of records whose vectors and client ids hold their number. Copies, because memory is used again."""
    vectors = np.stack([np.arange(len(labels)), labels], axis=1).astype(np.float32)
    names = [f"client {row}" for row in range(len(labels))] if clients else None
    taken = []
    for start, stop in zip([0, *cuts], [*cuts, len(labels)], strict=True):
        part = slice(start, stop)
        for block in blocks.add(vectors[part], labels[part], names[part] if names else None):
            taken.append(Block(block.vectors.copy(), block.labels.copy(), block.clients))
    return taken + [Block(block.vectors.copy(), block.labels.copy(), block.clients) for block in blocks.flush()]


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), max_size=120),
    cuts=st.lists(st.integers(0, 120), max_size=6),
    rows=st.integers(1, 20),
    most=st.integers(0, 600),
    clients=st.booleans(),
)
def test_every_record_comes_out_once_with_its_label_and_client(
    labels: list[int], cuts: list[int], rows: int, most: int, clients: bool
) -> None:
    array = np.array(labels, dtype=np.int32)
    where = sorted(min(cut, len(labels)) for cut in cuts)
    taken = blocks_of(LabelBlocks(rows=rows, most=most), array, where, clients=clients)
    seen = []
    for block in taken:
        assert len(block.vectors) == len(block.labels) > 0 and len(set(block.labels.tolist())) == 1
        numbers = block.vectors[:, 0].astype(int).tolist()
        assert block.vectors[:, 1].tolist() == block.labels.tolist() == array[numbers].tolist()
        assert block.clients == ([f"client {number}" for number in numbers] if clients else None)
        seen += numbers
    assert sorted(seen) == list(range(len(labels)))


@pytest.mark.parametrize("votes", [1, 3])
def test_counts_are_those_of_whole_batches(votes: int) -> None:
    rng = np.random.default_rng(4)
    owners = rng.integers(0, 7, 200).astype(np.int32)
    matrix = CandidateMatrix(np.arange(200), owners, rng.standard_normal((200, 5)).astype(np.float32))
    voter = Voter(matrix, distance="l2", votes_per_record=votes)
    vectors, labels = rng.standard_normal((900, 5)).astype(np.float32), rng.integers(0, 9, 900).astype(np.int32)
    wanted = voter.count(vectors, labels)
    for size, rows in ((1, 4), (37, 16), (900, 1024)):
        blocks, counts = LabelBlocks(rows=rows), np.zeros(200, dtype=np.int64)
        for start in range(0, 900, size):
            for block in blocks.add(vectors[start : start + size], labels[start : start + size]):
                counts += voter.count(block.vectors, block.labels)
        for block in blocks.flush():
            counts += voter.count(block.vectors, block.labels)
        assert counts.tolist() == wanted.tolist()


def test_blocks_are_full_and_few() -> None:
    labels = np.tile(np.arange(10, dtype=np.int32), 100)
    sizes = collections.Counter(
        len(block.labels) for block in blocks_of(LabelBlocks(rows=32), labels, [130, 555], clients=False)
    )
    assert sizes == {32: 30, 4: 10}


def test_a_batch_of_one_label_is_passed_on_without_a_copy() -> None:
    vectors, labels = np.zeros((64, 2), dtype=np.float32), np.full(64, 3, dtype=np.int32)
    (block,) = LabelBlocks(rows=32).add(vectors, labels)
    assert block.vectors is vectors and block.labels is labels


def test_what_waits_is_bounded_with_any_number_of_labels() -> None:
    blocks, rng, waiting = LabelBlocks(rows=100, most=8000), np.random.default_rng(0), 0
    for _ in range(50):
        labels = rng.integers(0, 1000, 64).astype(np.int32)
        given = sum(len(block.labels) for block in blocks.add(np.zeros((64, 4), dtype=np.float32), labels))
        waiting += 64 - given
        assert waiting * 16 <= 8000
    assert waiting == sum(len(block.labels) for block in blocks.flush())
    assert list(blocks.flush()) == []


def test_batches_that_do_not_fit_are_refused() -> None:
    blocks = LabelBlocks()
    with pytest.raises(ValueError, match="labels"):
        list(blocks.add(np.zeros((2, 3), dtype=np.float32), np.zeros(3, dtype=np.int32)))
    list(blocks.add(np.zeros((2, 3), dtype=np.float32), np.zeros(2, dtype=np.int32)))
    with pytest.raises(ValueError, match="one dimension, 3"):
        list(blocks.add(np.zeros((2, 4), dtype=np.float32), np.zeros(2, dtype=np.int32)))
