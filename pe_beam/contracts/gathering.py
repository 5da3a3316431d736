"""The content of records that are all rows of a client together, such as a patient's visits."""

from __future__ import annotations

import abc

import numpy as np
import pyarrow as pa

from pe_beam.contracts.content import Content


class ClientContent(Content):
    """Turns rows of a file into one record a client. It uses only Arrow and NumPy, and can be pickled.

    Attributes:
      rows: turns columns of a file into rows.
      most: largest number of rows of a client that a record is made of.
    """

    rows: Content
    most: int

    @abc.abstractmethod
    def order(self, rows: pa.Table) -> np.ndarray:
        """Returns keys by which a client's rows are sorted, float64 (n, keys), the first key first.

        The keys follow from the content of a row alone, and only equal rows have equal keys. The first `most` rows of a
        client are its record's.
        """

    @abc.abstractmethod
    def gather(self, rows: pa.Table, ends: np.ndarray) -> pa.Table:
        """Returns the payload of one record for each client.

        Args:
          rows: the rows of all clients, sorted, client after client.
          ends: int64 (clients,), the end of each client's rows; each client has 1 to `most` rows.
        """


def row_fields(content: Content) -> list[str]:
    """Returns the names of the fields that a row of a file has, whether a record is one row or all of a client's."""
    names: list[str] = (content.rows if isinstance(content, ClientContent) else content).payload.names
    return names
