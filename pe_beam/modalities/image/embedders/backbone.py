"""The base of all image embedders on torch: how pictures become batches, and batches vectors (DESIGN, rule 13).

A network adds in another order for another shape of its input. So every batch has one shape: the same number of
places, height and width. A place without a picture, or whose picture cannot be read, is zeros.
"""

from __future__ import annotations

import abc
import importlib.util
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding
from pe_beam.contracts.record import Fault
from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.kept import kept
from pe_beam.modalities.image.embedders.feeding import fed
from pe_beam.modalities.image.embedders.trial import trial_pictures
from pe_beam.modalities.loading import loading
from pe_beam.numbers import Whole


class BackboneOptions(contracts.Options):
    """Options of every embedder on torch. Each may change last bits of a vector, or more."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps; null: cuda where there is one, else cpu")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="of weights and arithmetic")
    batch_size: Whole = Field(16, ge=1, le=4096, description="pictures in a batch, always; more on a GPU")


@dataclass(frozen=True)
class Network:
    """A network as its library loads it, on the CPU.

    Attributes:
      module: the torch module, with its weights.
      features: maps (module, batch) to features; batch (b, 3, h, w), features (b, d), of the module's dtype.
      prepare: maps an RGB picture to float32 (3, h, w), h and w always the same. The result depends only on the
        picture. Several threads may call it.
    """

    module: Any
    features: Callable[[Any, Any], Any]
    prepare: Callable[[Image.Image], np.ndarray]


class Backbone(contracts.Embedder):
    """Embeds pictures as a network's features, float32. A row with values that are not finite is a fault."""

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = BackboneOptions
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """Modules that have to be installed; the extra `image` brings them."""

    def __init__(self, options: BaseModel) -> None:
        """Takes only options: a recipe may be planned where packages and weights are absent. `ready` checks them."""
        own = self.Options.model_validate(options.model_dump())
        assert isinstance(own, BackboneOptions)
        self._options = own

    def _check(self) -> None:
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(f"embedder.name: it needs the package {package!r}; install pe_beam[image]")
        self.check(self._options)

    @classmethod
    def check(cls, options: Any) -> None:
        """Raises RecipeError for faults that can be found without loading anything."""

    @classmethod
    @abc.abstractmethod
    def load(cls, options: Any, exact: Mapping[str, Any]) -> Network:
        """Reads weights from files that are here.

        Args:
          options: an object of this class's `Options`.
          exact: arguments for loading models of `transformers` (`modalities.exact`).

        Raises:
          RecipeError: weights are missing, damaged or of another model.
        """

    def placed(self) -> Placed:
        """Returns the network on its device. It is loaded once per process.

        Raises:
          MissingExtraError: a package is missing.
          RecipeError: options, or files that they name, are not usable.
        """
        self._check()
        with _LOADING:
            return _placed(type(self), self._options)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of the vectors."""
        return self.placed().dimension

    def ready(self) -> None:
        """Loads the network, so that its faults are found before any data are read.

        If the device of the recipe is not on this machine but on a worker, only packages and files are checked.
        """
        from pe_beam.modalities.exact import has_device

        self._check()
        if has_device(self._options.device):
            self.placed()

    def ready_here(self) -> None:
        """See Embedder. Checks that the device is there."""
        from pe_beam.modalities.exact import find_device

        find_device(self._options.device, key="embedder.device")

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the column `image`."""
        placed, data = self.placed(), records["image"].to_pylist()
        vectors = np.zeros((len(data), placed.dimension), np.float32)
        faults: dict[int, Fault] = {}
        for batch in fed(data, placed.prepare, shape=placed.shape, threads=placed.threads, pinned=placed.pinned):
            faults |= batch.faults
            if len(batch.faults) == batch.count:
                continue
            found = placed.run(batch.pictures)[: batch.count]
            vectors[batch.start : batch.start + batch.count] = found
            for place in np.flatnonzero(~np.isfinite(found).all(axis=1)):
                faults.setdefault(batch.start + int(place), Fault("embedding that is not finite"))
        vectors[list(faults)] = 0
        return Embedding(vectors, faults)

    def trial(self) -> pa.Table:
        """See Embedder. Returns a batch of made-up pictures, every other one large and colourful."""
        return pa.table({"image": pa.array(trial_pictures(max(self._options.batch_size, 4)), pa.binary())})


def loading_backbone(model: str, *, by: str, folder: str) -> AbstractContextManager[None]:
    """Returns `loading` for `embedder.model`. Hub, configuration, files and shapes: each raises its own exceptions."""
    return loading(
        "embedder.model", model, by=by, part="embedder.name: it", extra="image", folder=folder, faults=(Exception,)
    )


@dataclass(frozen=True)
class Placed:
    """A network on its device.

    Attributes:
      network: the network as loaded.
      device: torch's device.
      dtype: torch's dtype of weights and arithmetic.
      shape: shape of every batch: (b, 3, h, w).
      dimension: d, the length of its vectors.
      threads: number of threads that prepare pictures while the network computes.
    """

    network: Network
    device: Any
    dtype: Any
    shape: tuple[int, int, int, int]
    dimension: int
    threads: int

    @property
    def prepare(self) -> Callable[[Image.Image], np.ndarray]:
        """See Network."""
        return self.network.prepare

    @property
    def pinned(self) -> bool:
        """Whether batches are in pinned memory, from which a GPU copies by itself."""
        return bool(self.device.type == "cuda")

    def run(self, pictures: Any) -> np.ndarray:
        """Maps a batch, a float32 tensor of `shape` on the CPU, to features, float32 (b, d)."""
        return _run(self.network, pictures, self.device, self.dtype)


_LOADING = threading.RLock()


@kept(maxsize=2)
def _placed(kind: type[Backbone], options: BackboneOptions) -> Placed:
    import os

    import torch

    from pe_beam.modalities.exact import find_device, make_exact

    device = find_device(options.device, key="embedder.device")
    network = kind.load(options, make_exact(device))
    dtype = getattr(torch, options.dtype)
    sides = {network.prepare(Image.new("RGB", size)).shape for size in ((64, 48), (30, 50))}
    if len(sides) != 1 or len(height_and_width := next(iter(sides))) != 3 or height_and_width[0] != 3:
        raise RecipeError(
            f"embedder: its preprocessing makes pictures of shapes {sorted(sides)}; one shape, of 3 channels, is wanted"
        )
    shape = (options.batch_size, *next(iter(sides)))
    try:
        network.module.eval().to(device=device, dtype=dtype)
        found = _run(network, torch.zeros(shape), device, dtype)
    except (RuntimeError, NotImplementedError) as error:
        raise RecipeError(
            f"embedder: the network cannot compute with device {str(device)!r}, dtype {options.dtype!r} and batch_size "
            f"{options.batch_size} ({_first_line(error)}); a device with room for it, float32 on a CPU, or a smaller "
            "batch is wanted"
        ) from None
    if found.ndim != 2 or len(found) != options.batch_size:
        raise RecipeError(
            f"embedder: the network gives features of shape {found.shape}; one vector a picture is wanted"
        )
    threads = min(os.cpu_count() or 1, 16)
    return Placed(network, device, dtype, shape, found.shape[1], threads)


def _first_line(error: Exception) -> str:
    """Returns torch's message. It is about made-up pictures, so that nothing in it is private."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _run(network: Network, pictures: Any, device: Any, dtype: Any) -> np.ndarray:
    import torch

    from pe_beam.modalities.exact import make_exact

    make_exact(device)  # again: another library may have changed it since
    with torch.inference_mode():
        found = network.features(network.module, pictures.to(device, non_blocking=True).to(dtype))
        vectors: np.ndarray = found.to(torch.float32).cpu().numpy()
    return vectors
