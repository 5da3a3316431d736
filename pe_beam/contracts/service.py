"""Address, rate and price of a remote service: `execution.llm` and `execution.embeddings`.

They affect speed and money only. They are not in the run id and may change between resumes. They never contain a key,
only the name of the environment variable or file that holds it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pe_beam.contracts.store import Folder
from pe_beam.errors import RecipeError
from pe_beam.numbers import Real, Whole


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Endpoint(_Section):
    """One address with one key. Several are balanced by their live speed."""

    base_url: str | None = Field(None, description="such as http://host:8000/v1; null: as the client library chooses")
    key_env: str | None = Field("OPENAI_API_KEY", description="environment variable that holds the key; null: no key")
    key_file: str | None = Field(None, description="file that holds the key; counts more than key_env")
    model: str | None = Field(None, description="the model's name there (an Azure deployment), where it is another")
    azure_api_version: str | None = Field(None, description="set for Azure OpenAI; base_url is then the resource's")

    def key(self, where: str) -> str:
        """Returns the key. It is read at each call.

        Args:
          where: the recipe key of this endpoint, for messages.

        Raises:
          RecipeError: the variable is not set, the file cannot be read or is empty, or what it holds can be no key.
        """
        if self.key_file is not None:
            try:
                found = Path(self.key_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not text"
                raise RecipeError(f"{where}.key_file: {self.key_file!r} cannot be read ({reason})") from None
            if not found:
                raise RecipeError(f"{where}.key_file: {self.key_file!r} is empty; a key is wanted")
            return _sendable(found, f"{where}.key_file: {self.key_file!r}")
        if self.key_env is None:
            return "none"  # a user's own server accepts any key
        found = os.environ.get(self.key_env, "").strip()
        if not found:
            raise RecipeError(
                f"{where}.key_env: the environment variable {self.key_env} is not set; set it, or name a key_file "
                "(null in both: a server without keys)"
            )
        return _sendable(found, f"{where}.key_env: {self.key_env}")


def _sendable(key: str, said: str) -> str:
    """Returns a key that a header can hold. Raises RecipeError, without the key, for any other text."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise RecipeError(f"{said} holds no key; one line of ASCII letters, digits and signs without blanks is wanted")
    return key


class Price(_Section):
    """What a service charges, by million tokens."""

    input: Real = Field(0.0, ge=0, lt=1e9, description="per million tokens sent")
    output: Real = Field(0.0, ge=0, lt=1e9, description="per million tokens received")
    currency: str = Field("USD", pattern=r"^[A-Za-z]{1,8}$", description="of the prices and the ceiling")


class Ceiling(_Section):
    """What a run may use up, over all of its resumes; it stops before any of these is passed."""

    calls: Whole | None = Field(None, ge=0, description="requests, repeated ones included")
    tokens: Whole | None = Field(None, ge=0, description="sent and received together")
    money: Real | None = Field(None, ge=0, lt=1e12, description="in the currency of `price`")


_TOGETHER = "of all workers together, or, with the run directory on a disk, of those of one machine"


class Service(_Section):
    """A remote service: where, how fast, at which price, up to which sum."""

    endpoints: list[Endpoint] = Field(
        default_factory=lambda: [Endpoint()], min_length=1, description="addresses, balanced by their live speed"
    )
    concurrency: Whole = Field(16, ge=1, le=4096, description="calls in flight, in each worker process")
    requests_per_minute: Real | None = Field(None, gt=0, lt=1e9, description=_TOGETHER)
    tokens_per_minute: Real | None = Field(None, gt=0, lt=1e12, description=_TOGETHER)
    timeout: Real = Field(120.0, gt=0, le=86400, description="seconds that a call may take")
    patience: Real = Field(600.0, ge=0, le=864000, description="seconds of faults after which a run stops, resumably")
    price: Price | None = Field(None, description="what it charges; null: money is not counted")
    ceiling: Ceiling = Field(default_factory=Ceiling, description="what the run may use up, resumes included")

    @model_validator(mode="after")
    def _check(self) -> Service:
        if self.ceiling.money is not None and self.price is None:
            raise ValueError("ceiling.money: needs a price; without one nothing can be added up")
        return self


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The run that a generator or an embedder works in.

    Attributes:
      iterations: T, the number of iterations.
      service: settings of a remote service, from `execution`.
      folder: a folder that all workers share, for paces and accounts; None: there is no run directory.
      private: True if the service receives private records. The numbers of calls and tokens then depend on private
        records, so no message contains them.
    """

    iterations: int
    service: Service
    folder: Folder | None
    private: bool = False
