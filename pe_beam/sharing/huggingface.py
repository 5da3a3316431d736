"""A folder that `datasets.load_dataset` reads and the Hugging Face Hub shows: Parquet and a data card.

The card's front matter declares the features, so that pictures are pictures and labels have names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pe_beam.errors import InputError
from pe_beam.releases.reading import Release
from pe_beam.sharing.facts import SOURCE, Facts
from pe_beam.sharing.markdown import plain, table

DATA = "data/train-00000-of-00001.parquet"
_ROWS = 1000  # of a row group: the Hub's viewer reads them one at a time
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_CONFIGS = [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}]
_TYPES = {"double": "float64", "float": "float32", "halffloat": "float16", "date32[day]": "date32"}
_SIMPLE = ("bool", "string", "binary", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def write(release: Release, facts: Facts, folder: Path, iteration: int | None) -> None:
    """Writes the records, the card, and the release's own `privacy.json` and `recipe.json` to a new folder.

    Args:
      release: a complete one.
      facts: of this release.
      folder: an empty or new folder.
      iteration: whose population; None: the samples.

    Raises:
      InputError: a column has a type that the library has no feature for, or a file of the release is damaged.
      OSError: the folder cannot be written.
    """
    records = release.records(iteration)
    features = {name: _feature(name, records.schema.field(name).type, facts) for name in records.column_names}
    rows = _converted(records, features)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / DATA, row_group_size=_ROWS)
    front = _front_matter(facts, features, rows, (folder / DATA).stat().st_size)
    (folder / "README.md").write_text(front + _card(facts, features, len(rows), iteration), encoding="utf-8")
    for name in ("privacy.json", "recipe.json"):
        (folder / name).write_bytes(release.folder.read(name))


Feature = dict[str, Any]
"""A column's feature. That of a list of records is {"_type": RECORDS, "feature": name -> feature}, our own."""
RECORDS = "records"


def _feature(name: str, kind: pa.DataType, facts: Facts) -> Feature:
    """Returns a column's feature."""
    if name == "image" and facts.modality == "image":
        return {"_type": "Image"}
    if name == "label" and facts.labels:
        return {"_type": "ClassLabel", "names": list(facts.labels)}
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        own = {field.name: _feature(f"{name}.{field.name}", field.type, facts) for field in kind.value_type}
        return {"_type": RECORDS, "feature": own}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {"_type": "Sequence", "feature": _feature("", kind.value_type, facts)}
    dtype = _TYPES.get(str(kind), str(kind))
    if dtype not in (*_TYPES.values(), *_SIMPLE) and not pa.types.is_timestamp(kind):
        raise InputError(
            f"column {name!r}: {kind} is no feature of datasets; numbers, texts, times or lists are wanted"
        )
    return {"_type": "Value", "dtype": dtype}


def _converted(records: pa.Table, features: dict[str, Feature]) -> pa.Table:
    """Returns the records as the features store them: labels by their number, pictures as bytes beside a path."""
    columns = {}
    for name, feature in features.items():
        column = records[name].combine_chunks()
        if feature["_type"] == "ClassLabel":
            column = pa.compute.index_in(column, value_set=pa.array(feature["names"], pa.string())).cast(pa.int64())
        elif feature["_type"] == "Image":
            column = pa.StructArray.from_arrays([column, pa.nulls(len(column), pa.string())], ["bytes", "path"])
        columns[name] = column
    kept = {name: [each["feature"]] if each["_type"] == RECORDS else each for name, each in features.items()}
    told = json.dumps({"info": {"features": kept}})
    return pa.table(columns).replace_schema_metadata({"huggingface": told})


def _front_matter(facts: Facts, features: dict[str, Any], rows: pa.Table, size: int) -> str:
    split = {"name": "train", "num_bytes": rows.nbytes, "num_examples": len(rows)}
    told = {
        "pretty_name": facts.name if facts.private else f"{facts.name} (NOT PRIVATE)",
        "annotations_creators": ["machine-generated"],
        "size_categories": [next((word for most, word in _SIZES if len(rows) < most), "n>10M")],
        "tags": ["synthetic", "private-evolution", *(["differential-privacy"] if facts.private else ["not-private"])],
        "dataset_info": {
            "features": [{"name": name, **_declared(feature)} for name, feature in features.items()],
            "splits": [split],
            "download_size": size,
            "dataset_size": rows.nbytes,
        },
        "configs": _CONFIGS,
    }
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---\n\n"


def _declared(feature: dict[str, Any]) -> dict[str, Any]:
    """Returns a feature in the form of the card's front matter."""
    if feature["_type"] == RECORDS:
        return {"list": [{"name": name, **_declared(each)} for name, each in feature["feature"].items()]}
    if feature["_type"] == "ClassLabel":
        return {"dtype": {"class_label": {"names": {str(i): name for i, name in enumerate(feature["names"])}}}}
    if feature["_type"] == "Sequence":
        return {"sequence": feature["feature"]["dtype"]}
    return {"dtype": "image" if feature["_type"] == "Image" else feature["dtype"]}


def _card(facts: Facts, features: dict[str, Any], rows: int, iteration: int | None) -> str:
    parts = [f"# {plain(facts.name)}\n", *([] if facts.private else ["> **NOT PRIVATE.** " + _warning(facts)])]
    which = "the samples" if iteration is None else f"the population of iteration {iteration}"
    parts += [
        f"{rows} synthetic records ({plain(facts.modality)}): {which} of a run of Private Evolution "
        f"([paper]({SOURCE})). A public generator made them, and a noisy histogram of the votes of private records "
        "chose among them. Private records take part by noisy counts alone.",
        '## Use\n\n```python\nimport datasets\n\nrecords = datasets.load_dataset(FOLDER, split="train")\n```',
        "## Columns\n\n" + table(("column", "feature"), [(plain(n), _said(f)) for n, f in features.items()]),
        "## Privacy\n\n" + (_promise(facts) if facts.private else "None. The statement above is all there is."),
        "## How it was made\n\n" + _making(facts),
        "## To be completed by who publishes it\n\n- What the private records are, who collected them, and why this "
        "may be published.\n- The license (`license` in the front matter), and the language of texts (`language`).\n"
        "- What the data set is for and what it is not for; known biases of the private records and of the generator.\n"
        "- Licenses of the generator and of the embedder.",
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _warning(facts: Facts) -> str:
    return plain(facts.privacy["statement"])


def _said(feature: dict[str, Any]) -> str:
    if feature["_type"] == "ClassLabel":
        names = ", ".join(plain(name) for name in feature["names"][:50])
        return f"label: {names}" + (", ..." if len(feature["names"]) > 50 else "")
    if feature["_type"] == RECORDS:
        return "list of " + ", ".join(f"{plain(name)} ({_said(each)})" for name, each in feature["feature"].items())
    if feature["_type"] == "Sequence":
        return f"list of {feature['feature']['dtype']}"
    return "picture (PNG)" if feature["_type"] == "Image" else str(feature["dtype"])


def _promise(facts: Facts) -> str:
    privacy = facts.privacy
    rows = [
        ("epsilon, delta", f"{facts.epsilon}, {privacy['delta']:g}"),
        ("unit", privacy["unit"]),
        ("neighbouring relation", privacy["adjacency"]),
        ("mechanism", plain(privacy["mechanism"])),
        ("noisy histograms", str(privacy["iterations"])),
        ("measured before them", plain(facts.measured or "nothing")),
        ("accountant", plain(privacy["accountant"])),
    ]
    guess = (
        f"Somebody who knows all other records, and guesses at even odds whether one {privacy['unit']} took part, is "
        f"right at most {facts.best_guess} of the time."
    )
    return f"{plain(privacy['statement'])}\n\n{table(('what', 'value'), rows)}\n{guess} `privacy.json` has all of it."


def _making(facts: Facts) -> str:
    evolution = facts.recipe.get("evolution", {})
    rows = [
        ("generator", plain(", ".join(facts.generators))),
        ("embedder", plain(facts.embedder)),
        ("filters on candidates", plain(", ".join(facts.filters)) or "none"),
        ("iterations", str(facts.privacy["iterations"])),
        ("votes of a record", str(evolution.get("votes_per_record", 1))),
        ("labels", f"{len(facts.labels)}, declared" if facts.labels else "none"),
    ]
    return (
        f"{table(('what', 'value'), rows)}\n`recipe.json` has the public part of the recipe: options that may name a "
        "path, a host or a key are withheld there."
    )
