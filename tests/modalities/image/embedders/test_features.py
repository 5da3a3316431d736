"""Features and preprocessing are those of the libraries that keep each network, on the same weights."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.embedders.torchvision_models import TorchvisionEmbedder, TorchvisionOptions, _behead
from tests.modalities.image.embedders.small_models import pictures, png, table

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def _close(found, wanted):
    assert found.shape == wanted.shape
    assert abs(wanted).max() > 1e-3 and np.ptp(wanted, axis=0).max() > 1e-3  # something is compared
    np.testing.assert_allclose(found, wanted, **TOLERANCE)


def _library(features):
    import torch

    with torch.inference_mode():
        return features().numpy()


def test_efficientnet_is_the_architecture_that_timm_has(embedder):
    """timm's port of the same network: its weights in the order of ours, features to the last bit or nearly."""
    import timm
    import torch

    placed = embedder("efficientnet-lite0").placed()
    other = timm.create_model("tf_efficientnet_lite0").eval()
    ours = [value for name, value in placed.network.module.state_dict().items() if "num_batches" not in name]
    theirs = [name for name in other.state_dict() if "num_batches" not in name]
    other.load_state_dict(dict(zip(theirs, ours, strict=True)), strict=False)
    other.reset_classifier(0)
    batch = torch.stack([torch.from_numpy(placed.prepare(Image.fromarray(image))) for image in pictures(2)])
    _close(placed.run(batch), _library(lambda: other(batch)))


def test_efficientnet_looks_at_the_middle_as_in_training(embedder):
    """The official crop of 224 in 256, with a mean of 127 and a deviation of 128; timm's, but for half a gray level."""
    import timm

    image = Image.fromarray(pictures(1, side=300)[0]).resize((512, 256))
    found = embedder("efficientnet-lite0").placed().prepare(image)
    middle = np.asarray(image, dtype=np.float32)[16:240, 144:368]
    assert np.array_equal(found, ((middle - 127) / 128).transpose(2, 0, 1))
    config = timm.data.resolve_data_config(model=timm.create_model("tf_efficientnet_lite0"))
    assert abs(found - timm.data.create_transform(**config)(image).numpy()).max() < 0.01
    whole = embedder("efficientnet-lite0", crop=False).placed().prepare(image)
    assert np.array_equal(whole, ((np.asarray(image.resize((224, 224), 3), np.float32) - 127) / 128).transpose(2, 0, 1))


def test_real_features_tell_two_photographs_apart(embedder):
    """Views of scikit-learn's two photographs, from a third of a side to a half, mirrored and of other brightness."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    views, kinds = [], np.repeat([0, 1], 8)
    for kind in kinds:
        photograph = load_sample_images().images[kind]
        size = int(rng.integers(140, 210))
        top, left = rng.integers(0, photograph.shape[0] - size), rng.integers(0, photograph.shape[1] - size)
        view = photograph[top : top + size, left : left + size][:, :: rng.choice([-1, 1])]
        views.append(np.clip(view * rng.uniform(0.5, 1.3) + rng.uniform(-30, 30), 0, 255).astype(np.uint8))
    vectors = embedder("efficientnet-lite0", batch_size=4).embed(table(views)).vectors
    apart = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(axis=1)] == kinds).mean() >= 0.9


@pytest.mark.parametrize("name", ["timm"])
def test_timm_is_timms_own_pipeline(name, embedder):
    import timm
    import torch

    subject = embedder(name)
    model = timm.create_model(f"local-dir:{subject._options.model}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images = pictures(2)
    batch = torch.stack([transform(Image.fromarray(image)) for image in images])
    _close(subject.embed(table(images)).vectors, _library(lambda: model(batch)))


def test_torchvision_is_torchvisions_own_pipeline(embedder):
    import torch
    from torchvision import models

    subject = embedder("torchvision")
    model = models.get_model("shufflenet_v2_x0_5")
    model.load_state_dict(torch.load(subject._options.weights, weights_only=True))
    model.fc = torch.nn.Identity()
    transforms = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.transforms()
    images = pictures(2)
    batch = torch.stack([transforms(Image.fromarray(image)) for image in images])
    _close(subject.embed(table(images)).vectors, _library(lambda: model.eval()(batch)))


@pytest.mark.parametrize(
    ("model", "wide"),
    {
        "alexnet": 4096, "convnext_tiny": 768, "densenet121": 1024, "efficientnet_b0": 1280, "efficientnet_v2_s": 1280,
        "googlenet": 1024, "inception_v3": 2048, "maxvit_t": 512, "mnasnet0_5": 1280, "mobilenet_v2": 1280,
        "mobilenet_v3_small": 1024, "regnet_y_400mf": 440, "resnet18": 512, "resnext50_32x4d": 2048,
        "shufflenet_v2_x0_5": 1024, "squeezenet1_1": 512, "swin_t": 768, "vgg11": 4096, "vit_b_32": 768,
    }.items(),
)  # fmt: skip
def test_every_family_of_torchvision_loses_its_last_layer(model, wide):
    """On the device `meta`, which computes shapes alone (RegNet's first weights are drawn by arithmetic on others)."""
    import torch
    from torchvision import models

    slow = {"aux_logits": False, "init_weights": False} if model in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if model.startswith("regnet") else "meta"):
        module = models.get_model(model, weights=None, **slow).eval().to("meta")
    _behead(module)
    with torch.device("meta"):
        assert module(torch.zeros(2, 3, *([299, 299] if model == "inception_v3" else [224, 224]))).shape == (2, wide)


def test_weights_by_name_come_from_torchvisions_cache_alone(tmp_path, monkeypatch):
    """DenseNet's published file has the names of an older torchvision, and wants the head of none."""
    import torch
    from torchvision import models

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    options = TorchvisionOptions(model="densenet121", weights="DEFAULT", batch_size=1)
    place = tmp_path / "checkpoints" / "densenet121-a639ec97.pth"
    with pytest.raises(RecipeError, match=rf"fetch https://\S+densenet121-a639ec97\.pth and put it at '{place}'"):
        TorchvisionEmbedder(options).ready()
    model = models.get_model("densenet121").eval()
    older = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2.") if ".denselayer" in name else name: value
        for name, value in model.state_dict().items()
    }
    assert older.keys() != model.state_dict().keys()
    place.parent.mkdir()
    torch.save(older, place)
    image = pictures(1)[0]
    found = TorchvisionEmbedder(options).embed(table([image])).vectors
    model.classifier = torch.nn.Identity()
    batch = models.DenseNet121_Weights.DEFAULT.transforms()(Image.fromarray(image))[None]
    _close(np.concatenate([found, 0 * found]), np.concatenate([_library(lambda: model(batch)), 0 * found]))


def test_clip_is_transformers_model_and_processor(embedder):
    from transformers import AutoImageProcessor, CLIPModel

    subject = embedder("clip")
    model = CLIPModel.from_pretrained(subject._options.model).eval()
    processor = AutoImageProcessor.from_pretrained(subject._options.model, backend="pil")
    images = pictures(2)
    batch = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    _close(subject.embed(table(images)).vectors, _library(lambda: model.get_image_features(**batch).pooler_output))


def test_clip_sees_what_open_clip_sees(embedder):
    """open_clip's preprocessing of CLIP: the same pixels, to what rounding in float32 changes.

    Where an odd number of pixels is cut off, transformers and open_clip lie one pixel apart.
    """
    import open_clip

    prepare = embedder("clip").placed().prepare
    shown = open_clip.image_transform(32, is_train=False)
    for size in [(40, 40), (20, 40), (64, 32), (60, 45), (9, 8)]:
        image = Image.fromarray(pictures(1)[0]).resize(size)
        np.testing.assert_allclose(prepare(image), shown(image).numpy(), atol=1e-5)


def test_dinov2_is_transformers_model_and_processor(embedder):
    from transformers import AutoImageProcessor, Dinov2Model

    subject = embedder("dinov2")
    model = Dinov2Model.from_pretrained(subject._options.model).eval()
    processor = AutoImageProcessor.from_pretrained(subject._options.model, backend="pil")
    images = pictures(2)
    batch = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    _close(subject.embed(table(images)).vectors, _library(lambda: model(**batch).last_hidden_state[:, 0]))


def test_a_picture_three_pixels_wide_is_not_taken_for_one_with_channels_first(embedder):
    prepare = embedder("clip").placed().prepare
    for size in ((3, 3), (1, 3), (3, 1), (3, 5)):
        image = Image.new("RGB", size, (255, 0, 0))
        mean = prepare(image).reshape(3, -1)
        assert np.ptp(mean, axis=1).max() < 1e-6 and mean[0, 0] > 1 > mean[1, 0]


def test_a_file_is_what_its_bytes_say(embedder):
    """The same pixels in another format are the same vector."""
    image = Image.fromarray(pictures(1)[0])
    sink = io.BytesIO()
    image.save(sink, format="BMP")
    found = embedder("dinov2").embed(pa.table({"image": [png(image), sink.getvalue()]})).vectors
    assert np.array_equal(found[0], found[1])
