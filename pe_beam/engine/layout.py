"""Where the files of an iteration lie in a run directory. What is private lies where its own module says."""

from __future__ import annotations

from dataclasses import dataclass

PUBLIC_SERVICES = "work/services"
PRIVATE_SERVICES = "private/services"


@dataclass(frozen=True)
class Layout:
    """Names of files, relative to the run directory.

    Attributes:
      private: False at epsilon = inf.
    """

    private: bool

    @property
    def release(self) -> str:
        """The folder that may leave the building."""
        return "release" if self.private else "release-NOT-PRIVATE"

    def public(self, iteration: int, name: str) -> str:
        """A released file of an iteration."""
        return f"{self.release}/iteration={iteration:04d}/{name}"

    def work(self, iteration: int, name: str) -> str:
        """A working file of an iteration, never shared."""
        return f"work/iteration={iteration:04d}/{name}"
