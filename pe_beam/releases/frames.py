"""Turns tables of samples into what their users work with: pandas frames, Pillow pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pe_beam.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image


def to_pandas(table: pa.Table) -> Any:
    """Returns a table as a pandas DataFrame, dates as datetime64, integers of which some are missing as Int64.

    Raises:
      MissingExtraError: pandas is not installed.
    """
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("to_pandas: needs the package 'pandas', which is not installed") from error
    # Before version 2 datetime64 is of nanoseconds alone, which end in 2262.
    frame = table.to_pandas(date_as_object=int(pandas.__version__.partition(".")[0]) < 2)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            frame[name] = column.to_pandas(types_mapper={column.type: pandas.Int64Dtype()}.get)
    return frame


def to_images(table: pa.Table) -> list[Image]:
    """Returns the pictures of a population as Pillow images.

    Raises:
      InputError: the records are no pictures, or one of them cannot be decoded.
    """
    if "image" not in table.column_names:
        raise InputError(f"images: these records are no pictures; their columns: {', '.join(table.column_names)}")
    return [decoded(data) for data in table["image"].to_pylist()]


def decoded(data: bytes) -> Image:
    """Returns one picture, decoded. Raises InputError if its bytes are no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG",))
        picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError("images: a picture of the release cannot be decoded; a PNG file is wanted") from None
    return picture
