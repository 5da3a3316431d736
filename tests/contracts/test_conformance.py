import itertools

import numpy as np
import pyarrow as pa
import pytest
from markupsafe import Markup

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
from pe_beam.testing import ContractError, check_embedder, check_generator, check_view

counter = itertools.count()


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


def _rows():
    pictures = [*_records()["image"].to_pylist(), b"no picture"]
    hostile = "</span><script>alert(1)</script>"
    return [
        {"candidate_id": i, "parent_id": None, "label": hostile, "origin": "random", "image": data}
        for i, data in enumerate(pictures)
    ]


def test_the_view_of_images():
    check_view(MODALITY, _rows())


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        (lambda record: str(record["label"]), "not Markup"),
        (lambda record: Markup(record["label"]), "not closed"),
        (lambda record: Markup("<p onclick='x()'></p>"), "onclick"),
        (lambda record: Markup("<p id='x'></p>"), "id"),
        (lambda record: Markup("<a></a>"), "'a'"),
        (lambda record: Markup("<img src='https://example.invalid/x.png'>"), "outside"),
        (lambda record: Markup("<p>{}</p>").format(next(counter)), "second time"),
    ],
)
def test_a_view_that_breaks_its_contract_is_found(fragment, message):
    class Bad(View):
        def fragment(self, record, parent=None, *, large=False):
            return fragment(record)

        def alt(self, record):
            return "x"

    with pytest.raises(ContractError, match=message):
        check_view(Modality(name="bad", payload=MODALITY.payload, view=Bad), _rows())


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
