"""The content of records that are a row of a parent table with its rows of a child table, such as a client's orders."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import pyarrow as pa

from pe_beam.contracts.content import Content


class FamilyContent(Content):
    """Turns rows of two tables into a payload, family by family. It uses only Arrow and NumPy, and can be pickled.

    Attributes:
      parent: turns columns of the parent table into rows.
      child: turns columns of the child table into rows.
      parent_key: the column of the parent table that names the client.
      child_key: the column of the child table that names the same client.
      most: largest number of children of a family. Further ones are left out.
      keeps_last: whether the last children are kept if there are more; else the first.
    """

    parent: Content
    child: Content
    parent_key: str
    child_key: str
    most: int
    keeps_last: bool

    @abc.abstractmethod
    def pack_parents(self, rows: pa.Table) -> list[bytes]:
        """Returns each row of `parent.payload` as bytes of a fixed length."""

    @abc.abstractmethod
    def pack_children(self, rows: pa.Table) -> list[bytes]:
        """Returns each row of `child.payload` as bytes of a fixed length, whose order is that of the children.

        The bytes follow from the content of the row alone, so that equal rows have equal bytes.
        """

    @abc.abstractmethod
    def unpack(self, parents: Sequence[bytes], children: Sequence[Sequence[bytes]]) -> pa.Table:
        """Returns the payload of families: each has a packed parent and its packed children, in order."""
