"""Embedder `sentence-transformers`: any model that the package loads, on this machine."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.modalities import base
from pe_beam.modalities.base import Embedding
from pe_beam.modalities.text.checks import spread, usable
from pe_beam.numbers import Whole

_CHARACTERS_A_TOKEN = 64  # far beyond any token: what is cut lies beyond what a model reads


class SentenceOptions(base.Options):
    """Options of `sentence-transformers`."""

    model: str = Field(
        description="a local path, a hub name, or package:NAME/FOLDER inside an installed package",
        json_schema_extra={"public": "name"},
    )
    revision: str | None = Field(None, description="of a hub's model")
    device: str | None = Field(None, description="cpu, cuda, mps; null: the best that is there")
    batch_size: Whole = Field(32, ge=1, le=65536, description="texts encoded at a time")
    normalise: bool = Field(False, description="vectors of length 1")
    prompt: str | None = Field(None, description="text put before every record, for models that want one")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="of the weights")


class SentenceEmbedder(base.Embedder):
    """A sentence encoder. Texts beyond the model's length are cut, as the model itself does."""

    modality = "text"
    Options: ClassVar[type[base.Options]] = SentenceOptions

    def __init__(self, options: BaseModel) -> None:
        """Looks for the package and for a local model's folder; the model itself loads when it is first needed."""
        self._options = SentenceOptions.model_validate(options.model_dump())
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError(
                "embedder.name: 'sentence-transformers' needs the package of that name; install pe_beam[text]"
            )
        self._path = _located(self._options.model)

    def _model(self) -> Any:
        own = self._options
        return _loaded(self._path, own.revision, own.device, own.dtype)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of the vectors."""
        return _dimension(self._model())

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the column `text`."""
        rows, texts, faults = usable(records["text"].to_pylist())
        model = self._model()
        if not texts:
            return spread(np.zeros((0, _dimension(model))), [], records.num_rows, faults)
        # A record of megabytes would be split into tokens whole, and all but its first few hundred thrown away.
        limit = (model.max_seq_length or 512) * _CHARACTERS_A_TOKEN
        vectors = model.encode(
            [text[:limit] for text in texts],
            batch_size=self._options.batch_size,
            normalize_embeddings=self._options.normalise,
            prompt=self._options.prompt,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return spread(np.asarray(vectors, dtype=np.float32), rows, records.num_rows, faults)


def _dimension(model: Any) -> int:
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(ask())


def _located(model: str) -> str:
    """The path of a model in a package, or what was given."""
    if not model.startswith("package:"):
        if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
            raise RecipeError(f"embedder.model: {model!r} is not a folder")
        return str(Path(model).expanduser()) if model.startswith("~") else model
    package, _, inside = model.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(f"embedder.model: {model!r} names the package {package!r}, which is not installed")
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.is_dir():
        raise RecipeError(f"embedder.model: {model!r} names a folder that the package does not have")
    return str(path)


@functools.lru_cache(maxsize=2)
def _loaded(path: str, revision: str | None, device: str | None, dtype: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return SentenceTransformer(
            path, revision=revision, device=device, model_kwargs={"dtype": getattr(torch, dtype)}
        )
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"embedder.model: {path!r} cannot be loaded by sentence-transformers ({type(error).__name__}); a local "
            "folder or a hub name that this machine can reach is wanted"
        ) from None
