"""A stream whose directory and files are in a bucket: a file's stamp is the instant at which the store made it."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

from pe_beam.recipe.stream import instant_text
from pe_beam.storage import open_store
from pe_beam.streams.layout import closed_windows, published_windows
from pe_beam.streams.loop import Surroundings, stream
from tests.storage.servers import Server
from tests.streams.drifting import Clock, stream_recipe

_NEXT = itertools.count(30_000)


def test_files_of_a_bucket_are_in_the_window_in_which_they_were_made(server: Server, tmp_path) -> None:
    place = f"{server.kind}://runs/{next(_NEXT)}"
    data = open_store(f"{place}/in")
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    window = {"every": "1h", "anchor": instant_text(begin), "close_after": "5m", "publish_after": "10m"}
    changes = {"data__path": f"{place}/in/*.jsonl", "stream__stamp": None, "stream__window": window}
    recipe = stream_recipe(tmp_path, **changes)
    for name, values in (("a", [1, 2]), ("b", [3])):
        data.commit(f"{name}.jsonl", "".join(json.dumps({"x": x}) + "\n" for x in values).encode())
    clock = Clock(begin + timedelta(minutes=71))
    store = stream(recipe, f"{place}/stream", once=True, around=Surroundings(now=clock.now))
    assert store.remote
    [first] = closed_windows(store)
    held = json.loads(store.read(f"private/registry/manifests/{first}.json"))
    assert held["positions"] == ["a.jsonl", "b.jsonl"]
    assert all(entry["digest"].startswith("version ") for entry in held["members"]["files"])
    data.commit("a.jsonl", b'{"x": 9}\n', replace=True)  # made anew, in a window that is closed: of no other one either
    clock.at += timedelta(hours=1)
    stream(recipe, f"{place}/stream", once=True, around=Surroundings(now=clock.now))
    assert len(published_windows(store)) == 2
    assert not json.loads(store.read(f"private/registry/manifests/{closed_windows(store)[1]}.json"))["positions"]
    assert not [name for name in store.list_files("windows") if "/private/" in name]
