"""Weights that are missing, damaged or another model's are refused by the key that names them."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pe_beam import registry
from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.modalities.image.embedders.weights import fill, read_state
from pe_beam.modalities.quiet import quiet
from tests.modalities.image.embedders.small_models import NAMES


def _new(name, **options):
    part = registry.find("embedders", name, key="embedder.name")
    return part(part.Options(**options))


@pytest.fixture
def folder(embedder, tmp_path):
    """name -> a copy of its small model's folder, to be spoiled."""

    def copy(name):
        options = embedder(name)._options
        source = Path(getattr(options, "weights", None) or options.model)
        return Path(shutil.copytree(source.parent if source.is_file() else source, tmp_path / name))

    return copy


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_names_the_extra(name, monkeypatch):
    options = {"model": "resnet18", "weights": "x"} if name == "torchvision" else {"model": "x"}
    options = {"efficientnet-lite0": {}, "inception": {"weights": "x"}}.get(name, options)
    real = importlib.util.find_spec
    last = registry.find("embedders", name, key="").packages[-1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == last else real(package))
    with pytest.raises(MissingExtraError, match=rf"needs the package '{last}'; install pe_beam\[image\]"):
        _new(name, **options).ready()


def test_a_recipe_loads_no_torch_before_it_is_used():
    code = "import sys; from pe_beam.registry import names_for; names_for('embedders', 'image'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "PIL" in done.stdout.split() and not {"torch", "transformers", "timm"} & set(done.stdout.split())


@pytest.mark.parametrize("name", ["clip", "dinov2", "timm"])
def test_a_model_that_is_not_there(name, tmp_path):
    with pytest.raises(RecipeError, match=r"embedder\.model: '/nowhere/at/all' is not a folder"):
        _new(name, model="/nowhere/at/all").ready()
    with pytest.raises(RecipeError, match=r"embedder\.model: .*wanted"):
        _new(name, model=str(tmp_path)).ready()


def test_files_that_are_not_there_say_which_to_fetch():
    with pytest.raises(
        RecipeError, match=r"embedder\.weights: 'w\.pt' is not a file.*inception-2015-12-05\.pt.*clean-fid"
    ):
        _new("inception", weights="w.pt").ready()
    with pytest.raises(RecipeError, match=r"embedder\.weights: 'w\.pth' is neither a file.*IMAGENET1K_V2"):
        _new("torchvision", model="resnet50", weights="w.pth").ready()
    with pytest.raises(
        RecipeError, match=r"embedder\.model: 'resnet5' is no classifier of torchvision \(allowed: alexnet"
    ):
        _new("torchvision", model="resnet5", weights="DEFAULT").ready()
    with pytest.raises(RecipeError, match=r"embedder\.preprocessing: 'V9' is not known \(allowed: IMAGENET1K_V1"):
        _new("torchvision", model="resnet50", weights=__file__, preprocessing="V9").ready()
    with pytest.raises(RecipeError, match=r"embedder\.model: 'vit_of_mine' is neither a folder nor a model of timm"):
        _new("timm", model="vit_of_mine").ready()


@pytest.mark.parametrize("name", ["clip", "dinov2", "timm"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "gone", "other shape", "other type"])
def test_a_damaged_model(name, damage, folder):
    place = folder(name)
    weights, config = place / "model.safetensors", place / "config.json"
    said = json.loads(config.read_text())
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "garbage":
        weights.write_bytes(b"not weights" * 100)
    elif damage == "gone":
        for file in place.glob("*model*"):
            file.unlink()
    elif damage == "other shape":
        parts = said if name == "dinov2" else said["vision_config"] if name == "clip" else said
        parts.update({"hidden_size": 64, "model_args": {"embed_dim": 128}})
    else:
        said.update({"model_type": "bert", "architecture": "no_such_thing"})
    config.write_text(json.dumps(said))
    with pytest.raises(RecipeError, match=r"embedder\.model: .*(cannot be loaded|is of type 'bert' \(allowed: )"):
        _new(name, model=str(place)).ready()


@pytest.mark.parametrize("name", ["clip", "dinov2"])
def test_weights_that_are_missing_would_be_random(name, folder):
    from safetensors.torch import load_file, save_file

    file = folder(name) / "model.safetensors"
    state = load_file(file)
    lost = next(
        tensor for tensor in state if tensor.endswith("layernorm.weight") or tensor.endswith("post_layernorm.weight")
    )
    del state[lost]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(RecipeError, match=rf"one weight is missing or of another shape, such as '{lost}'"):
        _new(name, model=str(file.parent)).ready()


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("clip", "dinov2"):
        with pytest.raises(RecipeError, match=r"'no-one/nothing' cannot be loaded by transformers .*a hub name"):
            _new(name, model="no-one/nothing").ready()
    with pytest.raises(RecipeError, match=r"'hf-hub:no-one/nothing' cannot be loaded by timm"):
        _new("timm", model="hf-hub:no-one/nothing").ready()


def _module():
    import torch

    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def test_states_are_read_from_both_formats_and_from_below_a_key(tmp_path):
    import torch
    from safetensors.torch import save_file

    state = _module().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "c.pth")
    torch.save(state, tmp_path / "d.pth", _use_new_zipfile_serialization=False)  # as the published files of 2019
    for file in sorted(tmp_path.iterdir()):
        found = read_state(file, key="k")
        module = _module()
        fill(module, {name: value for name, value in found.items() if "num_batches" not in name}, key="k")
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/pe_beam_was_run"),)


def test_nothing_in_a_file_of_weights_is_run(tmp_path):
    import torch

    torch.save({"a": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(RecipeError, match=r"k: .*cannot be read as weights \(UnpicklingError\)"):
        read_state(tmp_path / "evil.pth", key="k")
    assert not Path("/tmp/pe_beam_was_run").exists()


def test_what_is_no_state_is_refused(tmp_path):
    import torch

    for name, what in (("list.pth", [1, 2]), ("empty.pth", {}), ("numbers.pth", {"a": 1})):
        torch.save(what, tmp_path / name)
        with pytest.raises(RecipeError, match=r"k: .*holds something else than weights"):
            read_state(tmp_path / name, key="k")
    for name, bytes_ in (("empty.bin", b""), ("text.pth", b"hello"), ("a.safetensors", b"\xff" * 99)):
        (tmp_path / name).write_bytes(bytes_)
        with pytest.raises(RecipeError, match=r"k: .*cannot be read as weights"):
            read_state(tmp_path / name, key="k")
    with pytest.raises(RecipeError, match=r"k: .*is not a file"):
        read_state(tmp_path, key="k")


def test_weights_of_another_model_are_refused_by_name_and_shape():
    import torch

    state = _module().state_dict()
    with pytest.raises(RecipeError, match=r"1 of 7 tensors are missing and 1 are not of it \('0\.bias' is missing\)"):
        fill(_module(), {name.replace("0.bias", "0.offset"): value for name, value in state.items()}, key="k")
    with pytest.raises(RecipeError, match=r"'0\.weight' has shape \[2, 4\] where \[2, 3\] is wanted"):
        fill(_module(), state | {"0.weight": torch.zeros(2, 4)}, key="k")
    fill(_module(), state | {"fc.weight": torch.zeros(2, 4)}, key="k", aside=("fc.",))


def test_inception_refuses_other_networks(embedder, folder, tmp_path):
    import torch

    torchvision = embedder("torchvision")._options.weights
    with pytest.raises(RecipeError, match=r"embedder\.weights: these weights are another model's"):
        _new("inception", weights=torchvision).ready()
    with pytest.warns(FutureWarning):
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "linear.pt"))
    with pytest.raises(RecipeError, match="is another network's TorchScript"):
        _new("inception", weights=str(tmp_path / "linear.pt")).ready()
    scripted = folder("inception") / "inception-2015-12-05.pt"
    whole = scripted.read_bytes()
    for spoiled in (whole[: len(whole) // 2], whole[:-300] + bytes(300), b""):
        scripted.write_bytes(spoiled)
        with pytest.raises(RecipeError, match=r"embedder\.weights: .*cannot be read"):
            _new("inception", weights=str(scripted)).ready()


def test_transformers_is_as_loud_afterwards_as_before(embedder, folder, capfd):
    import transformers

    level, bars = transformers.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    _new("clip", model=str(folder("clip"))).ready()
    with pytest.raises(RecipeError), quiet("transformers", warnings=True):
        raise RecipeError("x")
    assert transformers.logging.get_verbosity() == level
    assert transformers.utils.logging.is_progress_bar_enabled() == bars
    said = capfd.readouterr()
    assert "UNEXPECTED" not in said.err and "Loading" not in said.err and not said.out
