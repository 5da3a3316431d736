"""Names the files of an iteration in a run directory. The names of private files are in their own modules."""

from __future__ import annotations

from dataclasses import dataclass

PUBLIC_SERVICES = "work/services"
PRIVATE_SERVICES = "private/services"
SEARCH_ENGINES = "work/search-engines"
"""An empty file for each search engine that `auto` has taken. Which it is follows from candidates and machine alone."""


@dataclass(frozen=True)
class Layout:
    """Names of files, relative to the run directory.

    Attributes:
      private: False at epsilon = inf.
    """

    private: bool

    @property
    def release(self) -> str:
        """The folder that may be shared."""
        return "release" if self.private else "release-NOT-PRIVATE"

    def public(self, iteration: int, name: str) -> str:
        """Returns the name of a released file of an iteration."""
        return f"{self.release}/iteration={iteration:04d}/{name}"

    def work(self, iteration: int, name: str) -> str:
        """Returns the name of a working file of an iteration, which is never shared."""
        return f"work/iteration={iteration:04d}/{name}"
