"""The content of records that are all rows of a client together: a patient's visits, a customer with its orders."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pe_beam.contracts.content import Content
from pe_beam.contracts.record import Fault


@dataclass(frozen=True)
class ClientTable:
    """A table with rows of clients.

    Attributes:
      rows: turns columns of the table's files into rows.
      most: largest number of rows of a client that a record is made of.
      most_key: the recipe's key of that number, to tell the data holder that there are more; None: it is not told.
      client: the column that names the client; None: `data.columns.client` says which.
    """

    rows: Content
    most: int
    most_key: str | None = None
    client: str | None = None


class ClientContent(Content):
    """Turns rows of one or several tables into one record a client. It uses only Arrow and NumPy, and can be pickled.

    Attributes:
      tables: name -> table. Rows of the first one have the clients' labels.
    """

    tables: Mapping[str, ClientTable]

    @abc.abstractmethod
    def order(self, table: str, rows: pa.Table) -> np.ndarray:
        """Returns keys by which a client's rows of a table are sorted, float64 (n, keys), the first key first.

        The keys follow from the content of a row alone, and only equal rows have equal keys. The first `most` rows of a
        client are its record's.
        """

    def misfits(self, counts: Mapping[str, np.ndarray]) -> dict[int, Fault]:
        """Returns the clients whose numbers of rows make no record, and why.

        Args:
          counts: table -> int64 (clients,), numbers of rows; those above `most` are any number above it.
        """
        return {}

    @abc.abstractmethod
    def gather(self, rows: Mapping[str, pa.Table], ends: Mapping[str, np.ndarray]) -> pa.Table:
        """Returns the payload of one record for each client.

        Args:
          rows: the rows of all clients by table, sorted, client after client.
          ends: table -> int64 (clients,), the end of each client's rows. There are at most `most` of a client. A client
            that is a reject has one at most, and maybe too few; its record is not used.
        """


def row_fields(content: Content) -> list[str]:
    """Returns the names of the fields that rows of files have, whether a record is one row or all of a client's."""
    contents = [table.rows for table in content.tables.values()] if isinstance(content, ClientContent) else [content]
    return [name for each in contents for name in each.payload.names]
