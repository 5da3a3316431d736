"""The secret of a run directory in each custody: made once, read, destroyed for good, and never made again."""

from __future__ import annotations

import json

from pe_beam.custody import keeping
from pe_beam.storage import open_store
from tests.custody.conftest import Place


def test_a_secret_is_made_once_read_and_destroyed(place: Place, tmp_path) -> None:
    store = open_store(tmp_path / "run")
    held, kept = keeping.ensure_secret(store, place.kind, place.options)
    assert kept is None
    assert len(held) == 32
    assert keeping.read_secret(store) == held
    assert keeping.ensure_secret(store, place.kind, place.options) == (held, None)
    assert [value for value in place.values() if value == held]
    text = (tmp_path / "run/secret.json").read_text()
    assert held.hex() not in text
    keeping.forget_secret(store)
    assert place.values() == []
    record = json.loads((tmp_path / "run/secret.json").read_text())
    assert record["deleted"]
    assert record["destroyed"]
