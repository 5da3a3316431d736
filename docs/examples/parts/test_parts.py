"""The public suites, run on parts of one's own."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from every_search import Every
from lines_source import Lines, LinesOptions
from sqlite_store import SqliteStore

from pe_beam.contracts import FieldContent, SourceRequest
from pe_beam.errors import DataError
from pe_beam.modalities.text import MODALITY
from pe_beam.testing import check_store
from pe_beam.voting.nearest import flat_search, reference_nearest


def test_the_store_keeps_its_contract(tmp_path: Path) -> None:
    number = itertools.count()
    check_store(lambda: SqliteStore(f"sqlite://{tmp_path}/{next(number)}.db"))


def test_the_engine_finds_what_the_definition_says() -> None:
    rng = np.random.default_rng(0)
    candidates, records = (rng.integers(-2, 3, (count, 4)).astype(np.float32) for count in (50, 300))
    assert Every.__name__ == "Every"
    found = flat_search(candidates, distance="l2", votes=3, search_engine="every").nearest(records)
    assert (found == reference_nearest(records, candidates, distance="l2", votes=3)).all()


def test_the_source_reads_lines(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"one\n% no record\n\ntwo\nno \xff text\n")
    about = {"content": FieldContent(MODALITY.payload), "columns": {}, "labelled": False, "client": False}
    source = Lines.open(SourceRequest(path=str(tmp_path / "x.txt"), options=LinesOptions(comment="%"), **about))
    (piece,) = source.pieces()
    (batch,) = source.read(piece)
    assert batch.payload["text"].to_pylist() == ["one", "two", None]
    assert list(batch.faults) == [2]
    with pytest.raises(DataError, match=r"data\.path: .*No such file"):
        Lines.open(SourceRequest(path="nowhere", **about)).pieces()
