"""The section `stream`: windows of data that never end, by a schedule that is fixed before the first of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.stream import Span
from pe_beam.numbers import Real, Whole
from pe_beam.recipe.section import Section

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})([smhdw])")
_MOST = timedelta(days=3660)


def duration(text: str) -> timedelta:
    """Returns the time that a text such as `15m`, `6h` or `1d` says.

    >>> duration("6h")
    datetime.timedelta(seconds=21600)
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time; a whole number with s, m, h, d or w is wanted, as 6h")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def instant(text: str) -> datetime:
    """Returns the instant that a text in the form of `instant_text` says, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def instant_text(value: datetime) -> str:
    """Writes an instant in one way.

    >>> instant_text(datetime(2026, 12, 1, tzinfo=UTC))
    '2026-12-01T00:00:00Z'
    """
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a time is wanted: a whole number with s, m, h, d or w, as 6h")
    if duration(value) > _MOST:
        raise ValueError("more than ten years is refused")
    return value


def _instant(value: Any) -> Any:
    """Takes what YAML reads as a time, or a text in ISO 8601; an instant without an offset from UTC is refused."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError("an instant is wanted, as 2026-12-01T00:00Z") from None
    if found.tzinfo is None:
        raise ValueError("an instant with its offset from UTC is wanted, as 2026-12-01T00:00Z")
    if found.microsecond:
        raise ValueError("whole seconds are wanted")
    if not 1970 <= found.year < 3000:
        raise ValueError("a year from 1970 on and before 3000 is wanted")
    return instant_text(found)


Duration = Annotated[str, BeforeValidator(_duration)]
Instant = Annotated[str, BeforeValidator(_instant)]


class Window(Section):
    """The public schedule. It depends on no record, and no clock but that of the sources decides who belongs where."""

    every: Duration = Field(description="time from one window's end to the next one's, as 15m, 6h or 1d")
    length: Annotated[Duration | None, NEWER] = Field(
        None,
        description="of a window; null: every, so that windows follow each other. A multiple of it makes windows "
        "slide, which costs: stream.sliding",
    )
    anchor: Instant = Field(description="start of the first window, as 2026-12-01T00:00Z")
    close_after: Duration = Field(
        "0s", description="time after a window's end at which its members are fixed; what arrives later is a reject"
    )
    publish_after: Duration = Field(
        "0s", description="time after a window's end at which its release is published; not before close_after"
    )

    @model_validator(mode="after")
    def _check(self) -> Window:
        if duration(self.every) < timedelta(seconds=1):
            raise ValueError("every: 1s at least")
        if self.length is not None and (duration(self.length) % duration(self.every) or not duration(self.length)):
            raise ValueError("length: a multiple of every is wanted")
        if not duration(self.close_after) <= duration(self.publish_after) < self.busy:
            raise ValueError(
                "publish_after: from close_after on, when the members of a window are fixed, and before every + "
                "close_after, when those of the next one are"
            )
        return self

    @property
    def busy(self) -> timedelta:
        """The time from a window's end to the closing of the next one."""
        return duration(self.every) + duration(self.close_after)

    @property
    def leaves_no_time(self) -> bool:
        """Whether a release is to be published when its run only begins."""
        return duration(self.publish_after) == duration(self.close_after)

    @property
    def overlap(self) -> int:
        """The number of windows that have an instant, r: 1 if they follow each other."""
        return 1 if self.length is None else duration(self.length) // duration(self.every)

    def start(self, index: int) -> datetime:
        """Returns the instant that names a window: its end less `every`. That of the first is the anchor."""
        return instant(self.anchor) + index * duration(self.every)

    def span(self, index: int) -> Span:
        """Returns the instants of a window; the first has the index 0. No window begins before the anchor."""
        stop = self.start(index) + duration(self.every)
        return Span(self.start(max(0, index + 1 - self.overlap)), stop)

    def closes(self, index: int) -> datetime:
        """Returns the instant at which the members of a window are fixed, at the earliest."""
        return self.span(index).stop + duration(self.close_after)

    def due(self, first: int, now: datetime) -> int:
        """Returns how many windows, from one on, are to be closed by an instant."""
        return max(0, (now - self.closes(first)) // duration(self.every) + 1)

    def publishes(self, index: int) -> datetime:
        """Returns the instant at which the release of a window is published."""
        return self.span(index).stop + duration(self.publish_after)

    def index(self, start: datetime) -> int:
        """Returns the index of the window that starts at an instant. Raises ValueError if none does."""
        index, rest = divmod(start - instant(self.anchor), duration(self.every))
        if rest or index < 0:
            raise ValueError("at: no window starts then")
        return index


class Memory(Section):
    """How the noisy votes of earlier windows count. They are released, so that this costs nothing."""

    windows: Whole = Field(7, ge=1, le=1000, description="earlier windows whose noisy votes are pooled with its own")
    half_life: Real = Field(
        2.0,
        gt=0,
        le=1e6,
        description="windows after which a vote counts half; needs evolution.smoothing",
    )


class Stream(Section):
    """Data that never end: each record votes in one window, so that the stream costs what one window costs."""

    source: str = Field("files", description="what says which records belong to a window, as it is registered")
    options: dict[str, Any] = Field(default_factory=dict, description="what that source wants besides")
    window: Window = Field(description="the public schedule")
    stamp: str | None = Field(
        None,
        min_length=1,
        description="how the end of a file's path tells its instant in UTC: a pattern of %Y %m %d %H %M %S, * for "
        "anything, as %Y-%m-%d/*.parquet; null: the instant at which the object store made the file",
    )
    sliding: Annotated[Whole, NEWER] = Field(
        1,
        ge=1,
        le=1000,
        description="windows in which a record votes: window.length over every, said again for mu grows by its root",
    )
    fresh: Real = Field(
        0.1,
        ge=0,
        le=1,
        description="share of a window's first population that is new, not of the window before's release",
    )
    memory: Memory | None = Field(None, description="earlier windows' noisy votes beside this one's; null: none")
    client_windows: Whole = Field(
        1, ge=1, le=10000, description="windows in which a client's records count, its first ones; unit client only"
    )
    keep: Whole | None = Field(None, ge=1, description="published windows that stay; older ones are deleted; null: all")
    keep_private: bool = Field(False, description="whether the private parts of published windows stay")
    at: Instant | None = Field(None, description="start of the window that a run is of; `pe-beam stream` sets it")

    @model_validator(mode="after")
    def _check(self) -> Stream:
        if self.sliding != self.window.overlap:
            raise ValueError(
                f"sliding: windows of window.length have a record {self.window.overlap} times, and mu grows by the "
                f"root of that: sliding: {self.window.overlap} says that this is meant"
            )
        if self.at is not None:
            self.window.index(instant(self.at))
        if self.keep is not None and self.memory is not None and self.keep < self.memory.windows:
            raise ValueError("keep: memory.windows at least, since their releases are read")
        return self

    @property
    def index(self) -> int:
        """The index of the run's window; `at` is set."""
        assert self.at is not None
        return self.window.index(instant(self.at))
