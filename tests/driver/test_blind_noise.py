"""Votes reach what is shared by their noisy histograms alone: if these do not depend on the data, nothing outside
`private/` does, be the data neighbours or have nothing in common.
"""

from __future__ import annotations

import copy
import hashlib
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.privacy import noise
from tests.modalities.tabular.test_measure import recipe_of
from tests.modalities.tabular.test_pairs import rows
from tests.modalities.text.recipes import KEY, TEXTS
from tests.modalities.text.server import WORDS, Served
from tests.whole_runs import SECRET, picture_table

TOLD = re.compile(rb'"data_hmac": "[0-9a-f]+"')
"""What a ledger may say of the data."""
RANDOM = re.compile("work/services/[a-z]+/(holders/.*|identity)")
"""Files that are random, or named by a process."""
TIMES = re.compile(r"\d+(\.\d+)? (s|min|h)\b")


def _blind(*, counts: np.ndarray, labels: np.ndarray, sigma: float, grid_bits: int, key: bytes) -> np.ndarray:
    """Stands for `noise.add_noise`: histograms that follow from what is declared."""
    told = f"{len(counts)} {sigma.hex()} {labels.tolist()}".encode()
    rng = np.random.default_rng(list(hashlib.sha256(told).digest()))
    return np.round(rng.normal(60, 2 * sigma + 1, len(counts)) * 2**grid_bits) / 2**grid_bits


def _shown(
    root: Path, recipe: dict[str, Any], write: Callable[[Path], Any], capfd: pytest.CaptureFixture[str], *flags: str
) -> tuple[str, dict[str, Any]]:
    """What one run says, without times, and each file outside `private/`, with its time in a release."""
    shutil.rmtree(root, ignore_errors=True)  # paths are the same for all data
    root.mkdir()
    write(root)
    (root / "secret").write_bytes(SECRET)
    (root / "r.yaml").write_text(yaml.safe_dump(recipe))
    line = ["run", str(root / "r.yaml"), "--run-dir", str(root / "run"), "--secret-file", str(root / "secret")]
    assert main([*line, *flags]) == 0
    said = capfd.readouterr()
    files = {}
    for path in sorted((root / "run").rglob("*")):
        name = str(path.relative_to(root / "run"))
        if path.is_file() and not name.startswith("private/") and not RANDOM.fullmatch(name):
            data = path.read_bytes()
            time = path.stat().st_mtime_ns if name.startswith("release/") else None
            files[name] = hashlib.sha256(TOLD.sub(b"", data) if name == "ledger.jsonl" else data).hexdigest(), time
    return TIMES.sub("T", said.out + said.err), files


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(noise, "add_noise", _blind)
    return tmp_path / "x"


@pytest.mark.reported
def test_pictures_of_clients_with_measured_labels(small: dict[str, Any], root: Path, capfd: Any) -> None:
    small["data"] = {"source": "parquet", "path": str(root / "p.parquet"), "columns": {"client": "client"}}
    small["data"]["labels"] = [str(x) for x in range(10)]
    small["evolution"] |= {"iterations": 1, "samples": 20, "lookahead": 1, "keep_parents": True, "smoothing": 0.5}
    small["privacy"] |= {"unit": "client", "label_counts": {"budget": 0.2}}

    def write(count: int, clients: int) -> Callable[[Path], Any]:
        table = picture_table(count, seed=count)
        own = pa.array([f"{count}-{x % clients}" for x in range(count)])
        return lambda folder: pq.write_table(table.append_column("client", own), folder / "p.parquet")

    shown = [_shown(root, small, write(*own), capfd, "--unroll") for own in ((1, 1), (400, 7))]
    assert shown[0] == shown[1]


def test_tables_whose_pairs_are_chosen(root: Path, capfd: Any) -> None:
    recipe = recipe_of(root / "p.parquet")
    del recipe["privacy"]["keep_secret"]

    def write(count: int) -> Callable[[Path], Any]:
        return lambda folder: pq.write_table(rows(count, seed=count), folder / "p.parquet")

    shown = [_shown(root, recipe, write(count), capfd) for count in (1, 900)]
    assert shown[0] == shown[1]


def test_texts_of_two_models_a_filter_and_a_judge_and_what_is_asked_of_them(
    root: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PE_BEAM_TEST_KEY", KEY)
    recipe = copy.deepcopy(TEXTS)
    recipe["data"]["path"] = str(root / "p.csv")
    asked = recipe.pop("generator")
    vary = asked["vary"] | {"user": "Fill in, {tone}: {masked} like {examples}", "examples_from_candidates": 2}
    recipe["generators"] = [
        {"name": "first", "share": 3, "generator": asked},
        {"name": "both", "share": 1, "generator": asked | {"vary": vary}},
    ]
    judge = {"name": "judge", "model": "tiny", "prompt": "Good? {sample}", "accept": "(?i)^[a-s]", "max_tokens": 40}
    recipe["evolution"]["filters"] = [{"name": "length", "unit": "words", "least": 4, "most": 28}, judge]
    recipe["evolution"] |= {"iterations": 1, "samples": 8}
    recipe["privacy"]["label_counts"] = {"budget": 0.2}

    def write(count: int) -> Callable[[Path], Any]:
        rng = random.Random(count)
        lines = [f"{' '.join(rng.choices(WORDS, k=8))},{rng.choice(['good', 'bad', 'bad'])}\n" for _ in range(count)]
        return lambda folder: (folder / "p.csv").write_text("".join(["text,kind\n", *lines]))

    shown, requests = [], []
    with Served(tmp_path / "log") as server:
        endpoint = {"base_url": server.url, "key_env": "PE_BEAM_TEST_KEY"}
        recipe["execution"]["llm"]["endpoints"] = [endpoint]
        for count in (1, 300):
            before = len(server.requests())
            shown.append(_shown(root, recipe, write(count), capfd))
            requests.append(sorted(each["digest"] for each in server.requests()[before:]))
    assert requests[0] == requests[1]
    assert shown[0] == shown[1]
