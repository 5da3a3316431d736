"""Turns tables of samples into what their users work with: pandas frames, Pillow pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pe_beam.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image


def to_pandas(table: pa.Table) -> Any:
    """Returns a table as a pandas DataFrame. Raises MissingExtraError if pandas is not installed."""
    try:
        return table.to_pandas()
    except ImportError as error:
        raise MissingExtraError("to_pandas: needs the package 'pandas', which is not installed") from error


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
