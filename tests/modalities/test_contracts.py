import numpy as np
import pyarrow as pa
import pytest

from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
from pe_beam.testing import ContractError, check_embedder, check_generator


def _records():
    rng = np.random.default_rng(0)
    return pa.table({"image": [encode_png(rng.integers(0, 255, (9, 7), dtype=np.uint8)) for _ in range(5)]})


@pytest.mark.parametrize("labels", [["0", "1"], ["hello"]])
def test_text_render(labels):
    check_generator(TextRender(TextRenderOptions(), labels=labels), MODALITY, labels=labels)


@pytest.mark.parametrize("options", [{}, {"size": (3, 5), "mode": "rgb"}])
def test_pixels(options):
    bad = pa.table({"image": pa.array([b"no image", None], pa.binary())})
    check_embedder(Pixels(PixelsOptions(**options)), _records(), bad=bad)


def test_what_breaks_the_contract_is_found():
    class Forgetful(TextRender):
        def vary(self, parents, step, rngs):
            return super().vary(parents, step, [np.random.default_rng() for _ in rngs])

    class Short(TextRender):
        def random(self, labels, rngs):
            return super().random(labels[1:], rngs[1:])

    class Blind(Pixels):
        def embed(self, records):
            found = super().embed(records)
            found.vectors[:] = 0
            return found

    for broken in (Forgetful, Short):
        with pytest.raises(ContractError):
            check_generator(broken(TextRenderOptions(), labels=["0"]), MODALITY, labels=["0"])
    with pytest.raises(ContractError, match="one vector"):
        check_embedder(Blind(PixelsOptions()), _records())
