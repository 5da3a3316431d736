"""A small recipe on texts, answered by a server of its own, that runs in seconds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pe_beam.modalities.text.openai_client import import_openai
from tests.modalities.text.recipes import KEY, TEXTS, write_texts


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The recipe as plain data; `serve` puts a server's address into it."""
    monkeypatch.setenv("PE_BEAM_TEST_KEY", KEY)
    recipe = copy.deepcopy(TEXTS)
    recipe["data"]["path"] = str(write_texts(tmp_path / "private.csv"))
    return recipe


@pytest.fixture
def key_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment, and the client imported."""
    monkeypatch.setenv("PE_BEAM_TEST_KEY", "sk-secret")
    import_openai()  # seconds on a busy machine, and not while a test measures time
