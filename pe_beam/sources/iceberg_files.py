"""Reads an Iceberg table's metadata through our file layer: with the same credentials as data and run directories."""

from __future__ import annotations

from typing import Any

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile

from pe_beam.sources import files
from pe_beam.sources.iceberg import _here


class _Input(InputFile):
    """A file for reading."""

    def __len__(self) -> int:
        return files.size(_here(self.location))

    def exists(self) -> bool:
        """See InputFile."""
        return files.exists(_here(self.location))

    def open(self, seekable: bool = True) -> InputStream:
        """See InputFile."""
        return files.open_file(_here(self.location))


class ReadingFileIO(FileIO):
    """Files that are read. Nothing is written or deleted."""

    def new_input(self, location: str) -> InputFile:
        """See FileIO."""
        return _Input(location)

    def new_output(self, location: str) -> OutputFile:
        """Raises PermissionError: nothing is written."""
        raise PermissionError

    def delete(self, location: Any) -> None:
        """Raises PermissionError: nothing is deleted."""
        raise PermissionError
