"""Embedder `sentence-transformers`: any model that the package loads on this machine."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding
from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.kept import kept
from pe_beam.modalities.loading import demand_all, loading, tell
from pe_beam.modalities.text.checks import spread, usable
from pe_beam.modalities.text.lengths import batches, trial_texts
from pe_beam.numbers import Whole

_CHARACTERS_A_TOKEN = 64  # far more than any token has, so that only what a model does not read is cut
_TRIAL_TOKENS = {"cpu": 1024, "accelerator": 2**17}
"""Largest number of tokens of one batch of the self-check, beyond its shortest texts: about a second on either."""


class SentenceOptions(contracts.Options):
    """Options of `sentence-transformers`."""

    model: str = Field(
        description="a local path, a hub name, or package:NAME/FOLDER inside an installed package",
        json_schema_extra={"public": "name"},
    )
    revision: str | None = Field(None, description="of a hub's model")
    device: str | None = Field(None, description="cpu, cuda, mps; null: the best that is there")
    batch_size: Whole = Field(16, ge=1, le=65536, description="texts encoded at a time; more on a GPU")
    normalise: bool = Field(False, description="vectors of length 1")
    prompt: str | None = Field(None, description="text put before every record, for models that want one")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="of the weights")


class SentenceEmbedder(contracts.Embedder):
    """A sentence encoder. Texts beyond the model's length are cut, as the model itself cuts them."""

    modality = "text"
    batch_size = 4096  # for each length of texts, one batch may not be full
    Options: ClassVar[type[contracts.Options]] = SentenceOptions

    def __init__(self, options: BaseModel) -> None:
        """Checks the package and a local model's folder. The model itself is loaded when it is first needed."""
        self._options = SentenceOptions.model_validate(options.model_dump())
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError(
                "embedder.name: 'sentence-transformers' needs the package of that name; install pe_beam[text]"
            )
        self._path = _located(self._options.model)

    def _model(self) -> Any:
        from pe_beam.modalities.exact import make_exact

        own = self._options
        model = _loaded(self._path, own.revision, own.device, own.dtype)
        make_exact(model.device)  # again: another library may have changed it since
        return model

    def ready(self) -> None:
        """Loads the model, so that its faults are found before any data are read.

        If the device of the recipe is not on this machine but on a worker, a hub's model is looked for there.
        """
        from pe_beam.modalities.exact import has_device

        if has_device(self._options.device):
            self._model()

    def ready_here(self) -> None:
        """See Embedder. Checks that the device is there."""
        from pe_beam.modalities.exact import find_device

        find_device(self._options.device, key="embedder.device")

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
        # A record of megabytes would be tokenised whole, and only the first few hundred tokens would be used.
        limit = (model.max_seq_length or 512) * _CHARACTERS_A_TOKEN
        vectors = self._encoded(model, [text[:limit] for text in texts])
        return spread(vectors, rows, records.num_rows, faults)

    def trial(self) -> pa.Table:
        """See Embedder. Returns texts that fill a batch of each of a few lengths, every other one padded."""
        model = self._model()
        most = _TRIAL_TOKENS["cpu" if model.device.type == "cpu" else "accelerator"]
        size = max(self._options.batch_size, 2)
        return pa.table({"text": trial_texts(model, self._options.prompt or "", size=size, most=most)})

    def _encoded(self, model: Any, texts: list[str]) -> np.ndarray:
        """Returns vectors, float32 (n, d). Each depends only on its own text.

        A model adds in another order for another shape of its input. If a batch were padded to its longest text, one
        more record could change the last bits of all vectors of the batch. Then one record could move the votes of
        others, and sensitivity would not be 1. Here the shape of a batch follows from each text's own length: the
        number of texts is fixed, and they are padded to one of a few fixed lengths.
        """
        prefix = self._options.prompt or ""
        found = np.zeros((len(texts), _dimension(model)), dtype=np.float32)
        for places, filler, padded in batches(model, prefix, texts, size=max(self._options.batch_size, 2)):
            own = [texts[place] for place in places]
            found[places] = model.encode(
                [*own, *[filler] * padded],
                batch_size=len(own) + padded,
                normalize_embeddings=self._options.normalise,
                prompt=self._options.prompt,
                convert_to_numpy=True,
                show_progress_bar=False,
            )[: len(own)]
        return found


def _dimension(model: Any) -> int:
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(ask())


def _located(model: str) -> str:
    """Returns the path of a model in a package, or the given path or name."""
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


@kept(maxsize=2)
def _loaded(path: str, revision: str | None, device: str | None, dtype: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import get_device_name

    from pe_beam.modalities.exact import make_exact

    device = device or get_device_name()
    part = "embedder.name: sentence-transformers"
    with loading("embedder.model", path, by="sentence-transformers", part=part, extra="text"):
        own = {"dtype": getattr(torch, dtype), **make_exact(device)}
        made = SentenceTransformer(path, revision=revision, device=device, model_kwargs=own)
        told = _told(made, path, revision)
    demand_all(told, "embedder.model", path)
    return made


def _told(made: Any, path: str, revision: str | None) -> dict[str, Any]:
    """Returns what `transformers` tells of the weights of a model that its package has loaded, and not passed on.

    The layer "pooler" is left out: sentence encoders do not use it, and many are published without its weights.
    """
    from transformers import PreTrainedModel
    from transformers.utils import cached_file

    encoder = getattr(made[0], "auto_model", None)
    told: dict[str, Any] = {"missing_keys": [], "mismatched_keys": []}
    if not isinstance(encoder, PreTrainedModel) or getattr(encoder.config, "quantization_config", None) is not None:
        return told
    modules = cached_file(path, "modules.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    inside = "" if modules is None else json.loads(Path(modules).read_text(encoding="utf-8"))[0]["path"]
    about: dict[str, Any] = {"revision": revision} if revision is not None else {}
    told = tell(type(encoder), path, subfolder=inside, **about)
    return told | {"missing_keys": [name for name in told["missing_keys"] if "pooler" not in name.split(".")]}
