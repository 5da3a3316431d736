"""Streams under attack, and in clumsy hands: what would pay for a record twice, and what would stop it for good."""

from __future__ import annotations

import os
import shutil

import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve, run_one
from pe_beam.driver.purge import purge
from pe_beam.engine.run import stored_recipe
from pe_beam.errors import InputError, PeBeamError, RecipeError
from pe_beam.storage import open_store
from pe_beam.storage.local import LocalStore
from pe_beam.streams.loop import Surroundings, stream
from tests.streams.drifting import DAY, FIRST, Clock, Life, manifest, put, stream_recipe, window

BY_CLIENT = {"privacy__unit": "client"}


class _KillError(PeBeamError):
    """Stands for kill -9."""


def kill_at(life, part, days):
    """Does what is due, until a file is committed whose name has a part; this one and none after it is written."""

    def commit(self, name, *args, **kwargs):
        if part in name:
            raise _KillError("killed")
        return original(self, name, *args, **kwargs)

    original = LocalStore.commit
    with pytest.MonkeyPatch.context() as patch, pytest.raises(_KillError):
        patch.setattr(LocalStore, "commit", commit)
        life.until(days)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A stream with one published window, of a client. Tests copy it."""
    life = Life(tmp_path_factory.mktemp("published"), BY_CLIENT)
    put(life.folder, 0, "a", [(1, "ann")])
    life.until(1.5)
    return life


@pytest.fixture
def copied(published, tmp_path):
    """A copy of that stream, which goes on in its place."""
    shutil.copytree(published.folder / "stream", tmp_path / "stream")
    put(tmp_path, 0, "a", [(1, "ann")])
    put(tmp_path, 1, "a", [(2, "ann")])
    return Life(tmp_path, BY_CLIENT)


def test_a_kill_between_manifest_and_positions_leaves_a_stream_that_goes_on(tmp_path):
    life = Life(tmp_path)
    put(life.folder, 0, "a", [1])
    kill_at(life, "registry/positions", 1.1)
    store = life.until(1.5)
    assert store.list_files("private/registry/positions") == [f"private/registry/positions/{window(0)}.parquet"]
    assert life.until(2.5).exists(f"published/{window(1)}.json")


def test_another_key_would_let_clients_count_again_and_is_refused(copied):
    (copied.folder / "stream/private/registry/key").write_bytes(b"k" * 32)
    with pytest.raises(InputError, match=r"its key, or the manifest of the last window .* is not the stream's own"):
        copied.until(2.5)


def test_a_manifest_that_was_changed_after_it_was_paid_for_is_refused(copied):
    path = copied.folder / f"stream/private/registry/manifests/{window(0)}.json"
    path.write_text(path.read_text().replace("2026-12-01-a", "2026-12-01-b"))
    with pytest.raises(InputError, match="its key, or the manifest"):
        copied.until(2.5)


@pytest.mark.parametrize("left", [b"", b'{"version": 1, "win'])
def test_a_stream_that_lost_its_ledger_does_not_go_on(copied, left):
    (copied.folder / "stream/stream-ledger.jsonl").write_bytes(left)
    with pytest.raises(InputError, match=r"stream-ledger.jsonl: does not have all published windows"):
        copied.until(2.5)


def test_a_stream_that_was_moved_in_mid_window_goes_on(copied):
    kill_at(copied, "private/embeddings", 2.5)
    copied.folder.joinpath("stream").rename(copied.folder / "moved")
    clock = Clock(FIRST + 2.5 * DAY)
    recipe = stream_recipe(copied.folder, **BY_CLIENT)
    store = stream(recipe, copied.folder / "moved", once=True, around=Surroundings(now=clock.now))
    assert store.exists(f"published/{window(1)}.json")


def test_the_registry_is_not_purged(copied, capsys):
    folder = str(copied.folder / "stream")
    with pytest.raises(InputError, match="the directory of a stream"):
        purge(folder)
    assert main(["purge", folder]) == 2
    assert open_store(folder).exists("private/registry/key")
    assert main(["evaluate", folder]) == 2
    assert "that of a window is wanted" in capsys.readouterr().err


def test_a_window_is_run_by_no_other_command(copied, tmp_path):
    folder = copied.folder / f"stream/windows/{window(0)}"
    recipe = stored_recipe(open_store(folder))
    for place in (folder, tmp_path / "again"):
        with pytest.raises(RecipeError, match="run by `pe-beam stream`"):
            evolve(recipe, place)
    with pytest.raises(RecipeError, match="run by `pe-beam stream`"):
        run_one(folder, 1)
    with pytest.raises(RecipeError, match=r"stream\.at: the recipe of one window"):
        stream(recipe, tmp_path / "stream-of-a-window", once=True)
    assert not (tmp_path / "again/recipe.yaml").exists()


def test_windows_of_one_stream_are_not_added_up(copied, capsys):
    store = copied.until(2.5)
    folders = [store.at(f"windows/{window(day)}") for day in (0, 1)]
    assert main(["privacy", *folders]) == 2
    assert "windows of one stream are not added up" in capsys.readouterr().err
    assert main(["privacy", folders[1]]) == 0
    assert main(["privacy", store.uri, folders[0]]) == 2


def test_names_of_files_may_have_any_bytes(tmp_path):
    life = Life(tmp_path)
    names = [b"\xff", b"\n", "é".encode(), "e\N{COMBINING ACUTE ACCENT}".encode(), b"[*]", b" "]
    for name in names:
        path = put(life.folder, 0, "x", [1])
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/2026-12-01-" + name + b".jsonl"))
    store = life.until(1.5)
    assert len(manifest(store, 0)["positions"]) == len(names)
    assert manifest(life.until(2.5), 1)["rejects"] == []
