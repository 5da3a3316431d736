"""What `evaluate --set` is told wrongly is refused at once, with a message that says what is wanted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pe_beam.errors import InputError
from pe_beam.modalities.image.metrics.options import network_shape, read_options, space_sections


def refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        read_options(options)


def test_short_forms_and_a_file_become_one_list(tmp_path: Path) -> None:
    file = tmp_path / "spaces.yaml"
    file.write_text("pixels: {size: 4}\nsmall: {name: pixels, size: 2, mode: rgb}\n")
    found = read_options({"spaces": str(file), "wrn": "10-1", "wrn_epochs": "2"})
    told = json.loads(found["spaces"])
    assert told == {"pixels": {"name": "pixels", "size": 4}, "small": {"name": "pixels", "size": 2, "mode": "rgb"}}
    file.unlink()  # workers need no file
    assert space_sections(found) == told
    assert network_shape(found) == (10, 1, 2)
    short = space_sections({"inception": "/w.pt", "dinov2": "/d", "efficientnet-lite0": "yes"})
    assert short["inception"] == {"name": "inception", "weights": "/w.pt"}
    assert short["efficientnet_lite0"] == {"name": "efficientnet-lite0"}
    assert read_options({}) == {} and network_shape({"wrn": "yes"}) == (28, 10, 50) and network_shape({}) is None


def test_missing_and_damaged_weights_are_named_by_their_option(tmp_path: Path) -> None:
    refused(
        {"inception": "/nowhere/x.pt"}, "--set inception: weights: '/nowhere/x.pt' is not a file, and a run downloads"
    )
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"PK\x03\x04 no weights")
    refused({"inception": str(damaged)}, "--set inception: weights: ")
    refused({"clip": str(tmp_path / "none")}, "--set clip: model: ")
    refused({"dinov2": str(tmp_path)}, "--set dinov2: model: ")
    refused({"efficientnet-lite0": "no"}, "--set efficientnet-lite0=no: yes is wanted")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a mapping NAME: {name: an embedder, its options} is wanted"),
        ("- a\n- b\n", "a mapping NAME:"),
        ("a: [", "cannot be read as YAML (ParserError)"),
        ("a b: {name: pixels}", "--set spaces: the name 'a b' is not allowed"),
        ("1: {name: pixels}", "--set spaces: the name 1 is not allowed"),
        ("a: pixels", "--set spaces: a: an embedder's section is wanted"),
        ("a: {name: 3}", "--set spaces: a: an embedder's section is wanted"),
        (
            "inceptoin: {weights: x}",
            "--set spaces: inceptoin.name: 'inceptoin' is not known; did you mean 'inception'?",
        ),
        (
            "a: {name: hashed-words}",
            "--set a: 'hashed-words' is no embedder of pictures on this machine (allowed: clip",
        ),
        ("a: {name: openai-embeddings}", "--set a: 'openai-embeddings' is no embedder of pictures on this machine"),
        ("a: {name: pixels, sise: 3}", "--set a: sise: Extra inputs are not permitted (options of pixels: size, mode"),
        ("a: {name: pixels, size: 0}", "--set a: size: 0 is not allowed; 1 to 4096 is wanted"),
        ("inception: {}", "--set inception: weights: Field required (options of inception: "),
    ],
)
def test_a_file_of_spaces(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "spaces.yaml"
    file.write_text(text)
    refused({"spaces": str(file)}, words)


def test_a_file_that_is_not_there_or_names_a_space_twice(tmp_path: Path) -> None:
    refused({"spaces": str(tmp_path / "none.yaml")}, "cannot be read as YAML (FileNotFoundError)")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00a")
    refused({"spaces": str(tmp_path / "bytes.yaml")}, "cannot be read as YAML")
    file = tmp_path / "spaces.yaml"
    file.write_text("efficientnet_lite0: {name: pixels}")
    refused({"spaces": str(file), "efficientnet-lite0": "yes"}, "the name 'efficientnet_lite0' is taken by --set")


@pytest.mark.parametrize("value", ["no", "28", "28-0", "27-10", "4-1", "28-10-3", "-28-10", "999-1"])
def test_shapes_of_the_network(value: str) -> None:
    refused({"wrn": value}, f"--set wrn={value}: yes, or DEPTH-WIDTH is wanted")


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "many", "1001"])
def test_its_epochs(value: str) -> None:
    refused({"wrn": "10-1", "wrn_epochs": value}, f"--set wrn_epochs={value}: 1 to 1000 is wanted")
    refused({"wrn_epochs": "3"}, "--set wrn_epochs: it goes with --set wrn=yes")
