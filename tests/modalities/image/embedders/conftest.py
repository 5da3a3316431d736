"""Embedders on small models."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from pe_beam import registry
from tests.modalities.image.embedders import small_models


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """(name, **options) -> an embedder of that name on its small model, in batches of 2 unless said otherwise."""
    folder = tmp_path_factory.mktemp("models")

    def make(name: str, **more: Any) -> Any:
        part = registry.find("embedders", name, key="embedder.name")
        return part(part.Options(**{"batch_size": 2} | small_models.options(name, folder) | more))

    return functools.cache(make)
