"""What a recipe names by its registered name."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from pe_beam.numbers import Real, Whole
from pe_beam.recipe.section import Section


class Part(Section):
    """A generator or an embedder: its registered name; the other keys are its own options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str = Field(description="as it is registered; the other keys are its own options")

    @property
    def options(self) -> dict[str, Any]:
        """Returns all keys except the name."""
        return dict(self.model_extra or {})


class Maker(Section):
    """One of several generators: its name and share, and the iterations in which it makes candidates."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,31}$",
        description="your name for it; it is released, in the state of each candidate that it makes",
    )
    generator: Part = Field(description="what makes candidates, as where there is one")
    share: Real = Field(
        1.0,
        ge=1e-6,
        le=1e6,
        description="of what is made from nothing or handed over, against the shares of the others that are open",
    )
    first: Whole = Field(0, alias="from", ge=0, description="the first iteration in which it makes candidates")
    last: Whole | None = Field(None, alias="to", ge=0, description="the last one; null: to the end")

    def open_at(self, iteration: int) -> bool:
        """Returns whether it makes candidates of this population."""
        return self.first <= iteration and (self.last is None or iteration <= self.last)
