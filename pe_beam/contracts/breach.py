"""What a contract suite says of a part that breaks its contract."""

from __future__ import annotations


class ContractError(AssertionError):
    """A part breaks its contract; the message says how."""


def hold(fine: bool, what: str) -> None:
    """Raises ContractError with these words if it is not fine."""
    if not fine:
        raise ContractError(what)
