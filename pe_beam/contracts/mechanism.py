"""A mechanism: noise that one ledger entry pays for, drawn once."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import pyarrow as pa

from pe_beam.contracts.votes import Grid, Tally

if TYPE_CHECKING:
    from pe_beam.contracts.store import Store


class Mechanism(Grid):
    """Turns one tally into one noisy histogram. Pickles: it names its ledger entry and its secret, and holds neither.

    Both methods may run twice, in two places, or after a kill: whoever comes second finds what the first has committed.
    """

    @abc.abstractmethod
    def commit_counts(self, store: Store, tally: Tally) -> None:
        """Commits exact counts once.

        Args:
          store: where counts and histogram are committed.
          tally: of all records.

        Raises:
          InputError: the tally does not keep the bound that the noise is for, or other counts are committed already.
        """

    @abc.abstractmethod
    def noisy(self, store: Store) -> pa.Table:
        """The noisy histogram: noise is drawn once for the committed counts, and committed.

        Args:
          store: that the counts are committed to.

        Returns:
          One row a candidate, with the column `noisy_votes` or `noisy_count` (float64, in votes).

        Raises:
          InputError: no ledger entry pays for it, or other counts were given noise before.
          SecretError: the secret is missing or another one.
        """
