"""The typed options of a part."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of the typed options of a generator or an embedder: frozen, unknown keys refused, no NaN.

    The released recipe and the report withhold texts, which may be a path, a host or a key. An option says so itself
    with `Field(json_schema_extra={"public": True})` (always shown), `"name"` (a model's name, shown unless it
    looks like a path), `False` (never), or a list of the values that may be shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
