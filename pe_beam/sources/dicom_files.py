"""Reads DICOM files with pydicom, which is kept from saying anything of single files."""

from __future__ import annotations

import functools
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

from pe_beam.contracts.record import Fault

if TYPE_CHECKING:
    from pydicom import Dataset

NOT_INSTALLED = Fault("DICOM file, which pe_beam[dicom] reads")
_DEFLATED = "1.2.840.10008.1.2.1.99"


def is_dicom(data: bytes) -> bool:
    """Returns whether bytes begin as a DICOM file."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, **options: Any) -> Dataset | Fault:
    """Reads a file that `is_dicom`, or as much of it as the options of pydicom's `dcmread` ask for.

    Raises:
      Exception: of many kinds, if the file is damaged.
    """
    try:
        pydicom = quiet_pydicom()
    except ImportError:
        return NOT_INSTALLED
    from pydicom.filereader import read_dataset

    meta = read_dataset(io.BytesIO(data[132:]), False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == _DEFLATED:  # it would be unpacked whole, whatever its size
        return Fault("DICOM file that is deflated as a whole")
    found: Dataset = pydicom.dcmread(io.BytesIO(data), **options)
    return found


@functools.cache
def quiet_pydicom() -> Any:
    """Returns the package, which logs and warns of values of single files; a worker would write that into its log.

    Raises:
      ImportError: it is not installed.
    """
    import pydicom

    warnings.filterwarnings("ignore", module=r"pydicom\.")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # not before: an import of pydicom sets its own level
    return pydicom
