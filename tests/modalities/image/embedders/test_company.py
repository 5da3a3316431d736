"""A vector follows from its record alone, whatever stands beside it, and odd pictures are vectors or faults."""

import time

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pe_beam.contracts.record import Fault
from pe_beam.contracts.selfcheck import self_check
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.embedders.backbone import Backbone, BackboneOptions, Network
from pe_beam.modalities.image.embedders.feeding import fed
from pe_beam.testing import check_embedder
from tests.modalities.image.embedders.small_models import NAMES, pictures, png, table

ROTTEN = [b"no picture", None, png(pictures(1)[0])[:90]]


@pytest.mark.parametrize("name", NAMES)
def test_an_embedder_keeps_its_contract(name, embedder):
    check_embedder(embedder(name), table(pictures(2)), bad=pa.table({"image": pa.array(ROTTEN, pa.binary())}))


@pytest.mark.parametrize(("name", "batch_size"), [("clip", 1), ("clip", 5), ("dinov2", 3), ("timm", 4)])
def test_no_company_changes_a_bit(name, batch_size, embedder):
    """Alone, backwards, and with faults between, before and after."""
    subject = embedder(name, batch_size=batch_size)
    images = [png(image) for image in pictures(6)]
    wanted = subject.embed(table(images)).vectors
    mixed = [ROTTEN[0], *[one for image in reversed(images) for one in (image, ROTTEN[2])]]
    found = subject.embed(table(mixed))
    assert sorted(found.faults) == [row for row, one in enumerate(mixed) if one in ROTTEN]
    assert np.array_equal(found.vectors[1::2][::-1], wanted)
    assert not found.vectors[list(found.faults)].any()
    assert np.array_equal(subject.embed(table(images[4:5])).vectors[0], wanted[4])


ODD = {
    "one pixel": Image.new("RGB", (1, 1), "red"),
    "three by three": Image.fromarray(np.arange(27, dtype=np.uint8).reshape(3, 3, 3)),
    "a line": Image.new("RGB", (100, 1), "green"),
    "gray": Image.new("L", (20, 30), 77),
    "palette": Image.new("RGB", (20, 30), "blue").convert("P"),
    "one bit": Image.new("1", (9, 9), 1),
    "transparent": Image.new("RGBA", (20, 30), (10, 20, 30, 0)),
    "sixteen bits": Image.fromarray(np.full((9, 9), 40_000, np.uint16)),
    "large": Image.new("RGB", (2500, 1500), "yellow"),
}


@pytest.mark.parametrize("name", ["timm", "clip", "torchvision"])
def test_odd_pictures_have_vectors(name, embedder):
    data = [*map(png, ODD.values()), png(Image.new("CMYK", (20, 30), (0, 200, 0, 0)), "JPEG")]
    found = embedder(name).embed(table(data))
    assert not found.faults
    assert np.isfinite(found.vectors).all()
    for row in (0, 1, len(data) - 1):
        assert np.array_equal(embedder(name).embed(table(data[row : row + 1])).vectors[0], found.vectors[row])


def test_transparency_and_gray_are_seen_as_everywhere(embedder):
    clear, white = Image.new("RGBA", (20, 30), (10, 20, 30, 0)), Image.new("RGB", (20, 30), "white")
    gray, equal = Image.new("L", (20, 30), 90), Image.new("RGB", (20, 30), (90, 90, 90))
    found = embedder("clip").embed(table([png(image) for image in (clear, white, gray, equal)])).vectors
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[2], found[3])


def test_a_hair_of_a_picture_is_a_fault_before_it_becomes_gigabytes(embedder):
    timm, began = embedder("timm"), time.monotonic()
    found = timm.embed(table([png(Image.new("L", (60_000, 3)))]))
    assert found.faults == {0: Fault("image more than 100 times as long as wide", "60000 x 3")}
    assert time.monotonic() - began < 30


class _Own(Backbone):
    """Means of the three colours, with whatever `features` makes of them."""

    features = staticmethod(lambda _, batch: batch.mean(dim=(2, 3)))

    @classmethod
    def load(cls, options, exact):
        import torch

        prepare = lambda image: np.asarray(image.resize((8, 8)), np.float32).transpose(2, 0, 1)  # noqa: E731
        return Network(torch.nn.Identity(), cls.features, prepare)


def test_the_self_check_passes_what_is_sound_and_its_digest_is_the_models():
    class Other(_Own):
        features = staticmethod(lambda _, batch: batch.mean(dim=(2, 3)) * 2)

    digests = [self_check(kind(BackboneOptions(batch_size=size))) for kind in (_Own, Other) for size in (4, 4)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("batch_size", [2, 5, 16])
def test_the_self_check_finds_a_network_that_looks_at_the_batch(batch_size):
    """As batch normalisation that was left in training mode does."""

    class Mixing(_Own):
        features = staticmethod(lambda _, batch: batch.mean(dim=(2, 3)) + batch.mean())

    with pytest.raises(RecipeError, match="another vector beside other records"):
        self_check(Mixing(BackboneOptions(batch_size=batch_size)))


def test_the_self_check_finds_a_network_that_looks_at_the_place():
    class Placing(_Own):
        features = staticmethod(lambda _, batch: batch.mean(dim=(2, 3)).cumsum(0))

    with pytest.raises(RecipeError, match="another vector beside other records"):
        self_check(Placing(BackboneOptions(batch_size=4)))


def test_what_is_not_finite_is_a_fault_of_its_row():
    class Overflowing(_Own):
        features = staticmethod(lambda _, batch: 1 / batch.mean(dim=(2, 3)))

    black = np.zeros((9, 9, 3), np.uint8)
    found = Overflowing(BackboneOptions(batch_size=4)).embed(table([black + 5, black, black + 7]))
    assert found.faults == {1: Fault("embedding that is not finite")}
    assert np.isfinite(found.vectors).all() and found.vectors[[0, 2]].all()


def test_batches_are_the_same_with_threads_and_without():
    data = [png(image) for image in pictures(11)]
    prepare = _Own.load(None, {}).prepare
    looked = [
        [(batch.start, batch.count, batch.pictures.clone().numpy(), batch.faults) for batch in batches]
        for batches in (
            fed([*data, b""], prepare, shape=(4, 3, 8, 8), threads=threads, pinned=False) for threads in (1, 7)
        )
    ]
    assert [(start, count, faults.keys()) for start, count, _, faults in looked[0]] == [
        (0, 4, set()), (4, 4, set()), (8, 4, {11}),
    ]  # fmt: skip
    for one, other in zip(*looked, strict=True):
        assert np.array_equal(one[2], other[2]) and one[3] == other[3]
    assert not looked[0][2][2][3].any()
    assert list(fed([], prepare, shape=(4, 3, 8, 8), threads=2, pinned=False)) == []


def test_a_picture_that_breaks_the_preprocessing_is_not_swallowed():
    """A fault is what the decoder says; an exception of our own code stays one."""

    class Breaking(_Own):
        @classmethod
        def load(cls, options, exact):
            network = super().load(options, exact)

            def prepare(image):
                if image.size == (7, 7):
                    raise RuntimeError("a fault of the code")
                return network.prepare(image)

            return Network(network.module, network.features, prepare)

    with pytest.raises(RuntimeError, match="a fault of the code"):
        Breaking(BackboneOptions()).embed(table([*pictures(1), np.zeros((7, 7, 3), np.uint8)]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_and_keeps_the_contract(dtype, embedder):
    subject, exact = embedder("clip", dtype=dtype), embedder("clip")
    records = table(pictures(5))
    check_embedder(subject, records)
    halved, whole = subject.embed(records).vectors, exact.embed(records).vectors
    assert 0 < abs(halved - whole).max() < 0.05 * abs(whole).max()


def test_networks_are_loaded_once_a_process(embedder, monkeypatch):
    first = embedder("clip").placed()
    again = type(embedder("clip"))(embedder("clip")._options)
    monkeypatch.setattr(type(again), "load", None)
    assert again.placed() is first


def test_a_device_that_is_not_here_is_refused_by_name():
    for device in ("cuda:77", "abacus", "meta"):
        with pytest.raises(RecipeError, match=rf"embedder\.device: '{device}' is not on this machine"):
            assert _Own(BackboneOptions(device=device)).dimension
        _Own(BackboneOptions(device=device)).ready()  # a worker may have it
        with pytest.raises(RecipeError, match=rf"embedder\.device: '{device}' is not on this machine"):
            _Own(BackboneOptions(device=device)).ready_here()


def test_a_network_that_cannot_compute_so_is_refused_by_its_keys():
    class Short(_Own):
        features = staticmethod(lambda _, batch: batch.mean(dim=(0, 2, 3)))

    def lacking(_, batch):
        raise RuntimeError("not implemented for 'Half'")

    class Lacking(_Own):
        features = staticmethod(lacking)

    with pytest.raises(RecipeError, match="features of shape"):
        assert Short(BackboneOptions()).dimension
    with pytest.raises(RecipeError, match=r"device 'cpu', dtype 'float16' and batch_size 16 \(RuntimeError: not impl"):
        assert Lacking(BackboneOptions(dtype="float16")).dimension
