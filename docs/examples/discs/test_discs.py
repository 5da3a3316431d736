"""The public contract suite, run on parts of one's own."""

import pyarrow as pa
from discs import Discs, DiscSize, DiscsOptions

from pe_beam import contracts
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image import MODALITY
from pe_beam.testing import check_embedder, check_generator


def test_the_generator_keeps_its_contract() -> None:
    check_generator(Discs(DiscsOptions(), labels=[None]), MODALITY, labels=[None])


def test_the_embedder_keeps_its_contract() -> None:
    rngs = [keyed_rng(0, 0, row, "test") for row in range(4)]
    records = Discs(DiscsOptions(), labels=[None]).random([None] * 4, rngs)
    check_embedder(DiscSize(contracts.Options()), records, bad=pa.table({"image": [b"no image"]}))
