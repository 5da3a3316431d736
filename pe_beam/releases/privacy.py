"""The type of `privacy.json`: what a release says of its own privacy."""

from __future__ import annotations

from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pe_beam.errors import InputError


class Privacy(TypedDict):
    """The promise of a release. Infinity, "inf" in JSON, is the float.

    Keys: the (epsilon, delta) that was promised for the `unit` (record | client) under the `adjacency`
    (add-or-remove-one | replace-one); sigma over sensitivity of each of the `iterations` and of the first measurement
    (None: there was none; of the `measurements` of privacy.measure all together); the epsilon that is spent; and the
    `statement`, which says all of it in words. `start`, of a run that starts from an earlier release: which one, what
    the run spends by itself (`own`) and what those before it have (`ancestors`, `apart`); epsilon and delta count in
    what is added. Keys that a newer version adds are kept as they are.
    """

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    version: int
    epsilon: float
    delta: float
    adjacency: str
    unit: str
    mechanism: str
    noise_multiplier: list[float]
    label_shares_noise_multiplier: float | None
    measurements: NotRequired[list[dict[str, Any]]]
    sampling_rate: float | list[float]
    iterations: int
    accountant: str
    spent_epsilon: float
    supplied_secret: bool
    statement: str
    start: NotRequired[dict[str, Any]]


def as_privacy(raw: Any, name: str) -> Privacy:
    """Returns the content of a `privacy.json`. `name` is the file's, for the message.

    Raises:
      InputError: a key is missing or of another type.
    """
    try:
        return TypeAdapter(Privacy).validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "all of it"
        raise InputError(f"{name}: damaged ({key}); the file as it was released is wanted") from None
