"""The contract of a mechanism: noise that one ledger entry pays for and that is drawn once."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import pyarrow as pa

from pe_beam.contracts.votes import Grid, Tally

if TYPE_CHECKING:
    from pe_beam.contracts.store import Store


class Mechanism(Grid):
    """Turns one tally into one noisy histogram. It can be pickled: it names its ledger entry and secret, without them.

    Both methods may run twice, in two places, or again after a kill. A second call finds what the first has committed.
    """

    @abc.abstractmethod
    def commit_counts(self, store: Store, tally: Tally) -> None:
        """Commits exact counts once.

        Args:
          store: where counts and histogram are committed.
          tally: the votes of all records.

        Raises:
          InputError: the tally exceeds the bound for which the noise is set, or other counts are committed already.
        """

    @abc.abstractmethod
    def noisy(self, store: Store) -> pa.Table:
        """Returns the noisy histogram. Noise is drawn once for the committed counts, and committed.

        Args:
          store: the store that holds the committed counts.

        Returns:
          One row per candidate, with the column `noisy_votes` or `noisy_count` (float64, in votes).

        Raises:
          InputError: no ledger entry pays for it, or other counts were given noise before.
          SecretError: the secret is missing or is a different one.
        """
