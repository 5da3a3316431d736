"""Turns records that someone holds in memory into one Parquet file under a run's `private/`, equal for equal records.

pandas, polars and datasets are looked for only by the class of what is given: none of them is imported here.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from pe_beam import registry
from pe_beam.contracts.gathering import row_fields
from pe_beam.contracts.store import Store
from pe_beam.engine import tables
from pe_beam.engine.layout import Layout
from pe_beam.engine.run import stored_recipe
from pe_beam.errors import InputError
from pe_beam.names import locate
from pe_beam.python.warning import warn
from pe_beam.recipe import identity, parts
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.storage import open_store
from pe_beam.storage.parquet import read_parquet

_ORIENTATION = 0x0112  # of EXIF
_OF_TIFF = ("CMYK", "F", "LAB", "PA", "RGBX")
_CONVERTED = {"HSV": "RGB", "YCbCr": "RGB", "La": "LA", "RGBa": "RGBA"}  # no file that is read has them so
LANDED = "private/records/records.parquet"
WANTED = (
    "a pandas or polars DataFrame, an Arrow table, a datasets.Dataset, a list or a Series of texts, or a list or "
    "an array of "
    "pictures (Pillow, bytes of files, uint8 arrays of (height, width) or (height, width, 3))"
)


def as_columns(records: Any) -> Mapping[str, Any]:
    """Returns name -> column of what holds records, before any column is converted.

    A list of texts has the column `text`, pictures have the column `image`.

    Raises:
      InputError: it is none of `WANTED`, or a name occurs twice. No message holds a value.
    """
    home = type(records).__module__.split(".")[0]
    if home == "datasets" and hasattr(records, "column_names") and hasattr(records, "num_rows"):
        if not isinstance(records.num_rows, int):
            raise InputError(f"records: a {type(records).__name__} has several splits; one of them is wanted")
        if records.format["type"] == "custom":  # it would be passed over
            raise InputError("records: a Dataset with a transform; one that records.map has applied it to is wanted")
        records = records.with_format("arrow")[:]
    if isinstance(records, pa.Table):
        return _named(records.column_names, records.columns)
    if type(records).__name__ == "LazyFrame":
        raise InputError("records: a LazyFrame has no records yet; records.collect() is wanted")
    if home in ("pandas", "polars") and hasattr(records, "columns"):
        own = records.get_columns() if home == "polars" else [records.iloc[:, i] for i in range(records.shape[1])]
        return _named(list(records.columns), own)
    if isinstance(records, np.ndarray) and records.ndim in (3, 4):
        return {"image": list(records)}
    if type(records).__name__ == "Series" and home in ("pandas", "polars"):
        records = records.to_list()  # one column of texts
    if isinstance(records, list | tuple) and len(records):
        return {_content(records): records}
    raise InputError(f"records: {type(records).__name__} cannot be taken; allowed: {WANTED}; one record at least")


def _content(records: Sequence[Any]) -> str:
    """Returns what a list holds, text or image. Among texts some may be missing: they are rejects, as in a file."""
    there = [record for record in records if not _is_missing(record)]
    if all(isinstance(record, str) for record in there) and there:
        return "text"
    first = there[0] if there else None
    if isinstance(first, Mapping):
        raise InputError("records: list of dict cannot be taken; pandas.DataFrame(records) makes a table of it")
    if isinstance(first, str) or not (first is None or _may_be_picture(first)):
        of = "" if isinstance(first, str) else f" of {type(first).__name__}"
        raise InputError(f"records: list{of} cannot be taken; allowed: {WANTED}")
    return "image"


def _may_be_picture(value: Any) -> bool:
    pillow = any(base.__module__.partition(".")[0] == "PIL" for base in type(value).__mro__)
    return pillow or isinstance(value, bytes | np.ndarray)


def _is_missing(value: Any) -> bool:
    """Returns whether it is None, pandas' NA or NaT, or NaN, which stands for a missing text in pandas."""
    named = type(value).__name__ in ("NAType", "NaTType")
    return value is None or named or (isinstance(value, float) and math.isnan(value))


def _named(names: Sequence[Any], columns: Iterable[Any]) -> Mapping[str, Any]:
    if not all(isinstance(name, str) for name in names):
        raise InputError("records: a column's name is no text; texts are wanted as names")
    if len(set(names)) != len(names):
        raise InputError("records: a column's name occurs twice; each may occur once")
    return dict(zip(names, columns, strict=True))


def as_table(columns: Mapping[str, Any], wanted: Sequence[str]) -> pa.Table:
    """Returns the wanted columns as an Arrow table of plain types, without metadata.

    Raises:
      InputError: a column is not there, cannot be converted, or has another length. No message holds a value.
    """
    made: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name in wanted:
        whole, field = find_column(name, columns)
        if whole is not None and whole not in made:
            made[whole] = _converted(whole, columns[whole])
        if whole is None or not _has_field(made[whole].type, field):
            raise InputError(f"records: there is no column {name!r}; there are: {', '.join(columns)}")
    if len({len(column) for column in made.values()}) > 1:
        raise InputError("label: as many labels as records are wanted")
    return pa.table(made)


def find_column(name: str, columns: Mapping[str, Any]) -> tuple[str | None, str]:
    """Returns the column of a name, spelled as names in files may be, and the field of it: "" for all of it.

    `a.b` is the column of that name, or else `b` in the struct `a`. None: there is none.

    >>> find_column("age", {" age": []}), find_column("home.city", {"home": []}), find_column("x", {})
    ((' age', ''), ('home', 'city'), (None, ''))
    """
    held, (first, _, field) = list(columns), name.partition(".")
    for wanted, rest in ((name, ""), (first, field)):
        found = locate(wanted, held)
        if len(found) > 1:
            raise InputError(f"records: {wanted!r} is the name of several columns, but for blanks or Unicode forms")
        if found:
            return held[found[0]], rest
    return None, ""


def _has_field(kind: pa.DataType, path: str) -> bool:
    for name in path.split(".") if path else []:
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            return False
        kind = kind.field(name).type
    return True


def _converted(name: str, values: Any) -> pa.ChunkedArray | pa.Array:
    try:
        if _holds_pictures(name, values):
            return pa.array([None if _is_missing(value) else _picture(value) for value in values], pa.binary())
        if type(values).__module__.startswith("polars"):
            values = values.to_arrow()
        if not isinstance(values, pa.ChunkedArray | pa.Array):
            _demand_one_kind(values)
            values = pa.array(_in_their_own_zones(values), from_pandas=True)
        found = pa.compute.run_end_decode(values) if pa.types.is_run_end_encoded(values.type) else values
        found = found.cast(_plain(found.type))
        return _bytes_of(found) if _holds_files(found.type) else found
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
        raise InputError(f"records: column {name!r} cannot be converted; values of one type are wanted") from None


def _holds_pictures(name: str, values: Any) -> bool:
    """Returns whether a list, or a pandas column of objects, has pictures that have to be made files."""
    if isinstance(values, list | tuple):
        return name == "image"
    first = next((value for value in values if not _is_missing(value)), None) if _is_of_objects(values) else None
    return first is not None and not isinstance(first, bytes) and _may_be_picture(first) and np.ndim(first) != 1


def _is_of_objects(values: Any) -> bool:
    return str(getattr(values, "dtype", "")) == "object"


_KINDS: tuple[tuple[type, ...], ...] = (
    (np.float16,),
    (np.float32,),
    (bool, np.bool_),
    (int, float, Decimal, np.integer, np.floating),
    (date,),
    (str,),
    (bytes, bytearray, memoryview),
    (list, tuple, np.ndarray),
)
"""Types whose values may stand beside each other. Of others Arrow would read some as it reads the first or widest."""


def _demand_one_kind(values: Any) -> None:
    """Raises ValueError for Python's objects of several kinds, where one record would change the values of others.

    Beside a date, Arrow reads numbers as dates, or dies; beside a float64, 0.7 as float32 becomes 0.699999988.
    """
    if not isinstance(values, list | tuple) and not _is_of_objects(values):
        return
    if len(set(map(type, values))) > 1:
        kinds = {_kind(type(value)) for value in values if not _is_missing(value)}
        if len(kinds) > 1:
            raise ValueError("values of several kinds")


def _kind(of: type) -> object:
    return next((kind for kind in _KINDS if issubclass(of, kind)), of)


def _in_their_own_zones(values: Any) -> Any:
    """Returns Python's dates as ISO texts where their zones differ, or days stand beside instants; all else as it is.

    Arrow reads all values of a column as it reads the first one, so that one record would move the days of others.
    """
    if not isinstance(values, list | tuple) and not _is_of_objects(values):
        return values
    if not isinstance(next((value for value in values if not _is_missing(value)), None), date):
        return values
    there = [value for value in values if not _is_missing(value)]
    if not all(isinstance(value, date) for value in there) or len({_zone(value) for value in there}) == 1:
        return values
    return [None if _is_missing(value) else _iso(value) for value in values]


def _zone(value: date) -> str:
    return f"of {value.tzinfo}" if isinstance(value, datetime) else "day"


def _iso(value: date) -> str:
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value.isoformat()


def _plain(kind: pa.DataType) -> pa.DataType:
    """Returns the type that Parquet keeps a column's values in, whatever library has held them."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def _holds_files(kind: pa.DataType) -> bool:
    """Returns whether a column is the feature Image of datasets: a file's bytes beside its path."""
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def _bytes_of(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    found = pa.compute.struct_field(whole, "bytes")
    if found.null_count:
        raise InputError("records: a picture has a path and no bytes; cast its column to datasets.Image() with bytes")
    return found


def _picture(value: Any) -> bytes | None:
    """Returns a picture as the bytes of a file: those given, or a PNG of pixels."""
    from PIL import Image

    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.shape[2:] not in ((), (3,)):
            raise InputError(
                "records: an array is no picture; uint8 of (height, width) or (height, width, 3) is wanted"
            )
        value = Image.fromarray(value)
    if not isinstance(value, Image.Image):
        raise InputError(f"records: {type(value).__name__} is neither a text nor a picture; allowed: {WANTED}")
    return _file_of(value)


def _file_of(image: Any) -> bytes:
    """Returns a Pillow picture as a file from which it is read as it would be from its own; b"" where that is damaged.

    PNG, or TIFF for modes that PNG has not, of which some are rejects (float, Lab, integers of 32 bits).
    """
    from PIL import ImageOps

    try:
        image.load()
    except Exception:  # as of a file that cannot be read: Pillow's readers raise many kinds of exceptions
        return b""
    is_tiff = image.mode in _OF_TIFF or (image.mode == "I" and image.format not in ("PNG", "PPM"))  # as the codec says
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _CONVERTED:
        image = image.convert(_CONVERTED[image.mode])
    elif image.mode == "I" and not is_tiff:
        image = image.convert("I;16")  # what the file had; Pillow 13 saves no other as PNG
    sink = io.BytesIO()
    try:
        if is_tiff:
            image.save(sink, "TIFF")
        else:
            image.save(sink, "PNG", optimize=False)
    except (OSError, ValueError):  # no pixels, or a mode that no file has
        return b""
    return sink.getvalue()


def shared_store(run_dir: str | Path) -> Store:
    """Returns the store of a run directory. Raises InputError if workers cannot read records from it."""
    store = open_store(run_dir)
    if store.uri.startswith("memory:"):
        raise InputError("run_dir: memory:// is for examples; workers read records from a path, gs://, s3:// or az://")
    return store


def read_landed(recipe: Recipe, store: Store) -> Recipe:
    """Returns a recipe whose records are those that have landed in a run directory, and else as it is.

    Raises:
      InputError: the recipe is one of a stream, or of records of several tables.
    """
    if recipe.stream is not None:
        raise InputError("records: not with a stream, whose windows are read from where they arrive")
    if parts.find_modality(recipe).by_tables:
        raise InputError(
            f"records: modality {recipe.modality} has records of several tables; write each as a file below data.path, "
            "and name it in data.options"
        )
    raw = identity.to_plain(recipe)
    gathers = registry.find("sources", recipe.data.source, key="data.source").gathers
    read = {"options": {"rows": "parquet"}} if gathers else {"source": "parquet", "options": {}}
    raw["data"] |= read | {"path": store.at(LANDED), "separator": ",", "encoding": "utf-8"}
    return parse_recipe(raw)


def land_for(store: Store, recipe: Recipe, columns: Mapping[str, Any]) -> None:
    """Writes the columns that a recipe reads, unless its run is complete or another run lies there, which is refused.

    Raises:
      InputError: a column is not there or cannot be converted, or the run began with other records; or no record may
        stop the run.
      StorageError: they cannot be written.
    """
    if recipe.data.never_stop:
        raise InputError(
            "records: not with data.never_stop, for one value of another type stops the reading of its whole column; "
            "write them as Parquet, and name that in data.path"
        )
    is_there = store.exists("recipe.yaml")
    if is_there and identity.run_id(stored_recipe(store)) != identity.run_id(recipe):
        return
    if not store.exists(f"{Layout(recipe.private).release}/privacy.json"):
        land(store, as_table(columns, _wanted(recipe)))
    elif is_there and store.exists(LANDED) and not _are_those(store, recipe, columns):  # else they are purged
        warn(
            "records: others than those that this run was made of; it is complete and stays as it is. A new run_dir "
            "makes samples of them"
        )


def _are_those(store: Store, recipe: Recipe, columns: Mapping[str, Any]) -> bool:
    try:
        given = as_table(columns, _wanted(recipe))
    except InputError:
        return False
    return store.digest(LANDED) == hashlib.sha256(_file_bytes(given)).hexdigest() or given.equals(
        read_parquet(store, LANDED)
    )


def _wanted(recipe: Recipe) -> list[str]:
    """Returns the names of the columns that a recipe reads."""
    columns = recipe.data.columns
    wanted = [str(columns.get(name, name)) for name in row_fields(parts.find_modality(recipe).reader())]
    if recipe.data.labels is not None:
        label = columns.get("label", "label")
        wanted += [label] if isinstance(label, str) else list(label)
    if recipe.privacy.unit == "client":
        wanted.append(str(columns.get("client", "client")))
    return list(dict.fromkeys(wanted))


def land(store: Store, table: pa.Table) -> None:
    """Writes the records of a run once. The same records again are no fault.

    Raises:
      InputError: other records lie there.
      StorageError: they cannot be written.
    """
    store.protect("private")

    def write(file: BinaryIO) -> None:
        tables.write_table(file, [table], table.schema)

    if not store.commit(LANDED, write) and store.digest(LANDED) != hashlib.sha256(_file_bytes(table)).hexdigest():
        raise InputError("records: not those that this run began with; the same, or a new run directory, are wanted")


def _file_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    tables.write_table(sink, [table], table.schema)
    return sink.getvalue()
