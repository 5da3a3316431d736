"""Speed: the section `execution`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.service import Service
from pe_beam.numbers import Whole
from pe_beam.recipe.section import Section


class Stage(Section):
    """What one kind of worker needs, as Beam's resource hints; a runner that knows no hints ignores them."""

    min_ram: str | None = Field(None, description="memory of a worker, such as 8GB")
    cpu_count: Whole | None = Field(None, ge=1, description="cores of a worker")
    accelerator: str | None = Field(None, description="such as type:nvidia-l4;count:1;install-nvidia-driver")
    max_active_bundles_per_worker: Annotated[Whole | None, NEWER] = Field(
        None, ge=1, description="bundles at a time on a worker, as 1 where a model fills an accelerator; Beam 2.77"
    )


class Stages(Section):
    """The stages that may want machines of their own: votes want cores, generation wants accelerators."""

    ingest: Stage = Field(default_factory=Stage, description="reads and embeds private records, once")
    embed: Stage = Field(default_factory=Stage, description="embeds candidates, lookahead variations included")
    vote: Stage = Field(default_factory=Stage, description="finds the nearest candidates of each record")
    generate: Stage = Field(default_factory=Stage, description="makes new candidates")

    def hints(self) -> dict[str, dict[str, str]]:
        """Returns stage -> the hints that are set, in Beam's form."""
        given = self.model_dump(exclude_none=True)
        return {stage: {key: str(value) for key, value in hints.items()} for stage, hints in given.items() if hints}


class Execution(Section):
    """Speed only: nothing here changes privacy or the result, and it may change between resumes."""

    runner: str = Field("FnApiRunner", description="used where the Beam flags name no runner")
    beam_args: list[str] = Field(default_factory=list, description="Beam flags put before those given")
    parallelism: Whole | None = Field(None, ge=1, description="workers, as the runner's own flag; flags count more")
    blas_threads: Whole | None = Field(None, ge=1, description="threads of BLAS in a process; null: as it chooses")
    stages: Stages = Field(default_factory=Stages, description="resource hints by stage")
    llm: Service = Field(default_factory=Service, description="the service that a generator asks")
    embeddings: Service = Field(default_factory=Service, description="the service that an embedder asks")
    search_engine: str = Field(
        "auto",
        description="what proposes the nearest candidates, as it is registered: auto (the fastest, tried on candidates "
        "once a process), blas, faiss, int8, prefix, torch, or one of your own; votes are the same with any",
    )
    search_memory: Annotated[str, NEWER] = Field(
        "1GB",
        pattern=r"^[1-9][0-9]{0,5}(MB|GB)$",
        description="for all that a search holds of a label's candidates; larger ones are walked through in parts",
    )
    vote_batch: Whole = Field(8192, ge=1, description="private records voted on at a time, up to a shard")

    @property
    def search_bytes(self) -> int:
        """`search_memory` in bytes."""
        return int(self.search_memory[:-2]) * {"MB": 1 << 20, "GB": 1 << 30}[self.search_memory[-2:]]
