"""A notebook shows what a release says, and runs nothing that it says."""

from __future__ import annotations

import hashlib
import html.parser
import json

import numpy as np
import pyarrow as pa
import pytest

import pe_beam
from pe_beam.engine.tables import HISTOGRAM, population_schema, table_bytes
from pe_beam.releases.reading import open_release

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{}{0}"
PRIVACY = {
    **{"version": 1, "epsilon": 1.0, "delta": 1e-5, "adjacency": "add-or-remove-one", "unit": HOSTILE},
    **{"mechanism": "m", "noise_multiplier": [1.0], "label_shares_noise_multiplier": None, "sampling_rate": 1},
    **{"iterations": 1, "accountant": "a", "spent_epsilon": 1.0, "supplied_secret": False, "statement": HOSTILE},
}


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def release_of(uri, payload, rows):
    """A release whose names, labels, records and statement are all hostile."""
    store = pe_beam.open_store(uri)
    own = {"candidate_id": [0, 1], "parent_id": [None, None], "label": [HOSTILE] * 2, "origin": ["random"] * 2}
    schema = population_schema(payload)
    for t in (0, 1):
        population = table_bytes(pa.table({**own, "state": [None, None], **rows}, schema=schema), schema)
        votes = {"candidate_id": [0, 1], "label": [HOSTILE] * 2, "noisy_votes": [1.0, 2.0]}
        files = {"population/part-00000.parquet": population}
        files |= (
            {"histogram/part-00000.parquet": table_bytes(pa.table(votes, schema=HISTOGRAM), HISTOGRAM)} if t else {}
        )
        listed = {name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
        manifest = {"version": 1, "files": listed, "candidates": {HOSTILE: 2}, "iteration": t, "private": True}
        for name, data in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            store.commit(f"iteration={t:04d}/{name}", data)
    store.commit("samples.parquet", population)
    store.commit("recipe.json", json.dumps({"name": HOSTILE}).encode())
    store.commit("privacy.json", json.dumps(PRIVACY).encode())
    return open_release(uri)


def test_texts_labels_and_names_are_escaped():
    payload = pa.schema([(HOSTILE, pa.string())])
    shown = release_of("memory://hostile-texts", payload, {HOSTILE: [HOSTILE, "long " * 1000]})._repr_html_()
    tags = Tags()
    tags.feed(shown)
    shown_as = {"div", "p", "strong", "progress", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in tags.found} <= shown_as
    assert all(set(attributes) <= {"class", "style", "value", "max"} for _, attributes in tags.found)
    assert "".join(tags.text).count(HOSTILE) >= 5  # name, unit, statement, label, column and cell, all as text
    assert len(shown) < 8000


def test_labels_of_pictures_are_escaped():
    from pe_beam.modalities.image.codec import encode_png

    picture = encode_png(np.zeros((300, 300), dtype=np.uint8))
    release = release_of("memory://hostile-pictures", pa.schema([("image", pa.binary())]), {"image": [picture] * 2})
    tags = Tags()
    tags.feed(release._repr_html_())
    pictures = [attributes for tag, attributes in tags.found if tag == "img"]
    assert len(pictures) == 2 and all(each["src"].startswith("data:image/png;base64,") for each in pictures)
    assert all(set(each) == {"src", "alt", "style"} and each["alt"].endswith(HOSTILE) for each in pictures)


def test_a_picture_that_is_none_is_said():
    release = release_of(
        "memory://no-pictures", pa.schema([("image", pa.binary())]), {"image": [b"<svg onload=x>"] * 2}
    )
    assert "cannot be decoded" in release._repr_html_() and "svg" not in release._repr_html_()
    with pytest.raises(pe_beam.errors.InputError, match="a PNG file is wanted"):
        release.images()
