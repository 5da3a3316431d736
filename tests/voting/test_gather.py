"""Gathering by label: the same records in blocks of one label, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.voting.gather import Block, LabelGatherer


def gathered(batches: list[tuple[np.ndarray, np.ndarray, list[str] | None]], **sizes: int) -> list[Block]:
    gatherer = LabelGatherer(**sizes)
    blocks = [block for batch in batches for block in gatherer.add(*batch)]
    return [*blocks, *gatherer.rest()]


def rows_of(blocks: list[Block]) -> list[tuple[float, int, str | None]]:
    return sorted(
        (float(vector[0]), int(label), client)
        for block in blocks
        for vector, label, client in zip(
            block.vectors, block.labels, block.clients or [None] * len(block.labels), strict=True
        )
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=8),
    st.integers(1, 7),
    st.integers(0, 100),
    st.booleans(),
)
def test_every_record_comes_once_with_its_label_and_client(
    sizes: list[list[int]], block: int, most: int, by_client: bool
) -> None:
    batches, wanted, number = [], [], 0
    for labels in sizes:
        names = [f"c{number + row}" for row in range(len(labels))]
        vectors = np.arange(number, number + len(labels), dtype=np.float32)[:, None].repeat(2, axis=1)
        wanted += [(float(number + row), label, names[row] if by_client else None) for row, label in enumerate(labels)]
        batches.append((vectors, np.array(labels, np.int32), names if by_client else None))
        number += len(labels)
    blocks = gathered(batches, block=block, most_bytes=most)
    assert rows_of(blocks) == sorted(wanted)
    for each in blocks:
        assert (each.labels == each.labels[0]).all()
        assert len(each.vectors) == len(each.labels)
        assert (each.clients is not None) == by_client


def test_blocks_are_large_and_what_waits_is_bounded() -> None:
    rng = np.random.default_rng(0)
    gatherer, most, block = LabelGatherer(block=100, most_bytes=8 * 4 * 3000), 3000, 100
    inside, sizes = 0, []
    for _ in range(200):
        labels = rng.integers(0, 20, 50).astype(np.int32)
        inside += len(labels)
        for each in gatherer.add(np.zeros((50, 8), np.float32), labels):
            inside -= len(each.labels)
            sizes.append(len(each.labels))
        assert inside <= most + 50
    assert min(sizes) >= block * 0.7
    inside -= sum(len(each.labels) for each in gatherer.rest())
    assert inside == 0
    assert gatherer._bytes == 0


def test_a_large_batch_of_one_label_is_not_copied() -> None:
    vectors = np.zeros((2000, 4), np.float32)
    (block,) = LabelGatherer().add(vectors, np.full(2000, 3, np.int32))
    assert block.vectors is vectors


def test_a_rare_label_holds_no_batch_for_long_and_the_others_wait_on() -> None:
    gatherer = LabelGatherer(block=1000, most_bytes=4 * 100 * 4)  # 4 batches of 100 records
    sizes = []
    for number in range(9):
        labels = np.full(100, 5 + number % 2, np.int32)
        labels[0] = 7 if number == 0 else labels[1]
        sizes += [(int(b.labels[0]), len(b.labels)) for b in gatherer.add(np.zeros((100, 1), np.float32), labels)]
        assert gatherer._bytes <= 4 * 100 * 4
    assert sizes == [(5, 299), (7, 1), (6, 400)]  # each when it waits in the oldest batch, and then whole
    assert sorted((int(b.labels[0]), len(b.labels)) for b in gatherer.rest()) == [(5, 200)]
    assert gatherer._bytes == 0


def test_labels_of_any_size_are_told_apart() -> None:
    labels = np.array([70_000, 3, 70_000, 2**31 - 1, 4464, 3], np.int32)  # 70,000 is 4,464 in 16 bits
    blocks = gathered([(np.arange(6, dtype=np.float32)[:, None], labels, None)])
    assert [(int(b.labels[0]), b.vectors[:, 0].tolist()) for b in blocks] == [
        (3, [1.0, 5.0]),
        (4464, [4.0]),
        (70_000, [0.0, 2.0]),
        (2**31 - 1, [3.0]),
    ]


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels: shape \(3,\) is needed"):
        list(LabelGatherer().add(np.zeros((3, 2), np.float32), np.zeros(2, np.int32)))
