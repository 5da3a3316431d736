"""Embedder `openai-embeddings`: a remote service gets every private record. A recipe must allow this explicitly."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding
from pe_beam.contracts.service import Endpoint, Service, Surroundings
from pe_beam.errors import RecipeError
from pe_beam.modalities.text.checks import spread, usable
from pe_beam.modalities.text.openai_client import MOST_BYTES, OpenAiLine
from pe_beam.modalities.text.refusals import Asked
from pe_beam.modalities.text.replies import ErrorReply, counted, read_json
from pe_beam.modalities.text.wordings import Said
from pe_beam.numbers import Whole
from pe_beam.services.connection import TransientError, Usage
from pe_beam.services.dispatch import Dispatcher
from pe_beam.services.pool import shared_dispatcher

_KEY = "execution.embeddings"
_ADVICE = {"input": "write a smaller embedder.most_characters or embedder.batch_size"}


class RemoteOptions(contracts.Options):
    """Options of `openai-embeddings`."""

    model: str = Field(description="its name at the service", json_schema_extra={"public": "name"})
    dimension: Whole = Field(ge=1, le=65536, description="length of the vectors that the service gives")
    batch_size: Whole = Field(64, ge=1, le=2048, description="texts in a call")
    most_characters: Whole = Field(20000, ge=1, description="longer texts are cut here")
    send_private_records: bool = Field(
        False, description="has to be true: every private record leaves this machine for the service"
    )


class RemoteEmbedder(contracts.Embedder):
    """Embeddings of an OpenAI-compatible service."""

    modality = "text"
    Options: ClassVar[type[contracts.Options]] = RemoteOptions
    remote: ClassVar[bool] = True

    def __init__(self, options: BaseModel) -> None:
        """Raises RecipeError unless the recipe explicitly allows that private records leave this machine."""
        self._options = RemoteOptions.model_validate(options.model_dump())
        if not self._options.send_private_records:
            raise RecipeError(
                "embedder.name: openai-embeddings sends every private record to a service outside this machine, "
                "without any privacy; where that is allowed, say embedder.send_private_records: true. Else take "
                "sentence-transformers, which works on this machine"
            )
        self.dimension = self._options.dimension
        self._around = Surroundings(iterations=1, service=Service(), folder=None)

    def attach(self, surroundings: Surroundings) -> None:
        """See Embedder."""
        self._around = surroundings

    def ready(self) -> None:
        """See Embedder. Checks that keys are there and that the service answers."""
        service = self._around.service
        for place, endpoint in enumerate(service.endpoints):
            endpoint.key(f"{_KEY}.endpoints.{place}")
        self._dispatcher().probe(min(service.patience, 30.0))

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the column `text`, `batch_size` texts per call."""
        rows, texts, faults = usable(records["text"].to_pylist())
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        own = self._options
        batches = (
            (start, [text[: own.most_characters] for text in texts[start : start + own.batch_size]])
            for start in range(0, len(texts), own.batch_size)
        )

        def on_answer(asked: _Batch, found: np.ndarray) -> None:
            vectors[asked[0] : asked[0] + len(found)] = found

        self._dispatcher().ask_all(batches, size=_most, on_answer=on_answer, known=lambda _: None)
        return spread(vectors, rows, records.num_rows, faults)

    def _dispatcher(self) -> Dispatcher:
        options = self._options
        return shared_dispatcher(
            self._around.service,
            self._around.folder,
            key=_KEY,
            private=self._around.private,
            about=f"{options.model}|{options.dimension}",
            connect=lambda endpoint, where: _EmbeddingLine(endpoint, where, options, self._around.service.concurrency),
        )


_Batch = tuple[int, list[str]]


def _most(asked: _Batch) -> Usage:
    return Usage(sum(len(text.encode()) // 3 + 8 for text in asked[1]), 0)


class _EmbeddingLine(OpenAiLine):
    """A connection to one endpoint for embeddings: asks are (first row, texts), answers are float32 arrays."""

    def __init__(self, endpoint: Endpoint, where: str, options: RemoteOptions, concurrency: int) -> None:
        most_bytes = max(MOST_BYTES, 32 * options.batch_size * options.dimension)  # 32 for each number
        super().__init__(endpoint, where, model=options.model, concurrency=concurrency, most_bytes=most_bytes)
        self._asked = Asked(where, self._model, ("input", "encoding_format"), _ADVICE.get, part="embedder")
        self._dimension = options.dimension

    async def _send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        texts = ask[1]
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        reply = await self._client.post("/embeddings", body=body, options={"timeout": timeout}, cast_to=bytes)
        found = read_json(reply)
        vectors = _vectors(found, len(texts))
        if vectors.shape[1] != self._dimension:
            raise RecipeError(f"embedder.dimension: {self._dimension}, but the service gives {vectors.shape[1]}")
        return vectors, counted(found.get("usage"), _most(ask))

    def _spared(self, said: Said) -> Any | None:
        return None


def _vectors(reply: Any, count: int) -> np.ndarray:
    """Returns the vectors of an answer in the order of the texts. Raises TransientError for another body."""
    try:
        ordered = sorted(reply["data"], key=lambda entry: entry["index"])
        with np.errstate(over="ignore"):  # a number beyond float32 is found below
            found = np.array([entry["embedding"] for entry in ordered], dtype=np.float32)
        if len(found) == count and found.ndim == 2 and np.isfinite(found).all():
            return found
    except (ArithmeticError, LookupError, TypeError, ValueError):
        pass
    if isinstance(reply, dict) and reply.get("error"):
        raise ErrorReply(reply)
    unrecognised = not isinstance(reply, dict) or "data" not in reply
    raise TransientError("an answer that is not one", billed=True, unrecognised=unrecognised)
