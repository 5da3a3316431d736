"""The error that a contract suite raises for a part that breaks its contract."""

from __future__ import annotations


class ContractError(AssertionError):
    """A part breaks its contract; the message says how."""


def hold(fine: bool, what: str) -> None:
    """Raises ContractError with the message `what` unless `fine` is true."""
    if not fine:
        raise ContractError(what)
