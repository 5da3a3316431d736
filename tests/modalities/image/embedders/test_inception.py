"""FID's features: those of torch-fidelity and clean-fid, on files such as they use."""

import warnings

import numpy as np
import pytest
from PIL import Image

from pe_beam.modalities.image.embedders.inception import InceptionEmbedder, InceptionOptions
from pe_beam.modalities.image.embedders.inception import resized_clean as clean
from pe_beam.modalities.image.embedders.inception import resized_tensorflow as tensorflow
from tests.modalities.image.embedders.small_models import library_inception, pictures, table

SIZES = [(1, 1), (2, 7), (32, 32), (299, 299), (300, 298), (640, 400)]


def _picture(size):
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_resizing_is_clean_fids_to_the_last_bit(size):
    from cleanfid.resize import build_resizer

    assert np.array_equal(clean(_picture(size)), build_resizer("clean")(_picture(size)))


@pytest.mark.parametrize("size", SIZES)
def test_resizing_is_torch_fidelitys_to_the_last_bit(size):
    import torch
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x as resize

    batch = torch.from_numpy(_picture(size)).permute(2, 0, 1)[None].float()
    wanted = resize(batch, size=(299, 299), align_corners=False)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(tensorflow(_picture(size)), wanted)


@pytest.fixture(scope="module")
def library():
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return library_inception()


@pytest.fixture(scope="module")
def weights(library, tmp_path_factory):
    """torch-fidelity's own state dict: with the classifying layer that features do not need."""
    import torch

    path = tmp_path_factory.mktemp("fid") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(library.state_dict(), path)
    return str(path)


def test_features_are_torch_fidelitys(library, weights):
    import torch

    subject = InceptionEmbedder(InceptionOptions(weights=weights, resize="tensorflow", batch_size=2))
    images = [image[:30, :25] for image in pictures(3, side=70)]
    with torch.inference_mode():
        wanted = library(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))[0].numpy()
    assert wanted.std() > 1e-3
    found = subject.embed(table(images)).vectors
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    again = subject.embed(table(images[::-1])).vectors[::-1]
    assert np.array_equal(again, found)


def test_features_are_those_of_clean_fids_own_wrapper_of_its_file(embedder):
    """clean-fid's InceptionV3W on the file, behind its own resizing, picture by picture."""
    import torch
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    subject = embedder("inception", batch_size=3)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        network = InceptionV3W(subject._options.weights.rpartition("/")[0], download=False, resize_inside=False)
    images = pictures(4)
    resized = np.stack([build_resizer("clean")(image) for image in images]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        wanted = network(torch.from_numpy(resized)).numpy()
    assert wanted.shape == (4, 2048) and wanted.std() > 1e-2
    for _ in range(3):  # TorchScript would compile another program after some calls
        np.testing.assert_allclose(subject.embed(table(images)).vectors, wanted, rtol=1e-4, atol=1e-5)


def test_both_kinds_of_file_take_both_ways_of_resizing(embedder, weights):
    images = pictures(1)
    for options in ({}, {"weights": weights, "batch_size": 1}):
        found = [embedder("inception", resize=way, **options) for way in ("clean", "tensorflow")]
        one, other = [subject.embed(table(images)).vectors for subject in found]
        assert one.shape == other.shape == (1, 2048)
        assert 0 < abs(one - other).max() < abs(one).max()


def test_scripted_vectors_do_not_change_from_call_to_call(embedder):
    subject = embedder("inception", batch_size=2)
    records = table(pictures(2))
    found = [subject.embed(records).vectors for _ in range(6)]
    assert all(np.array_equal(found[0], each) for each in found)


def test_pictures_are_scaled_as_in_tensorflows_graph(embedder):
    prepared = embedder("inception").placed().prepare(Image.new("RGB", (9, 9), (0, 128, 255)))
    assert prepared.dtype == np.float32
    assert prepared.reshape(3, -1).mean(axis=1).tolist() == [-1, 0, 127 / 128]
