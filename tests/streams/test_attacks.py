"""Streams under attack, and in clumsy hands: what would pay for a record twice, and what would stop it for good."""

from __future__ import annotations

import io
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve, run_one
from pe_beam.driver.purge import purge
from pe_beam.engine.run import stored_recipe
from pe_beam.errors import InputError, PeBeamError, RecipeError
from pe_beam.recipe.identity import to_plain, to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.windows import manifest_name, read_manifest
from pe_beam.releases.reading import open_release
from pe_beam.storage import open_store
from pe_beam.storage.local import LocalStore
from pe_beam.streams.loop import Surroundings, stream
from pe_beam.streams.status import status
from tests.streams.drifting import DAY, FIRST, Clock, Life, counts, manifest, put, stream_recipe, window

BY_CLIENT = {"privacy__unit": "client"}
KEEP = {"stream__keep_private": True}


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


def test_a_window_that_is_not_complete_is_not_purged(copied):
    kill_at(copied, "private/counts", 2.5)
    with pytest.raises(InputError, match="a window of a stream that is not complete"):
        purge(str(copied.folder / f"stream/windows/{window(1)}"))
    assert copied.until(2.5).exists(f"published/{window(1)}.json")


def test_without_the_clients_of_the_window_before_nothing_is_run(copied):
    store = open_store(copied.folder / "stream")
    store.remove("private/registry/clients")
    with pytest.raises(InputError, match="private/registry/clients: the file of the last window is missing"):
        copied.until(2.5)
    assert not store.exists(f"windows/{window(1)}/ledger.jsonl")


def test_no_directory_of_a_run_or_a_stream_is_taken_for_the_other(copied, tmp_path, capsys):
    """`run` into a stream's directory said that no budget is spent there, and that it may be deleted."""
    folder = copied.folder / "stream"
    digits = ["run", "digits", "--run-dir"]
    for place in (folder, folder / f"windows/{window(0)}"):
        assert main([*digits, str(place)]) == 2
        assert "the directory of a stream, or of a window; use another" in capsys.readouterr().err
    recipe = stream_recipe(copied.folder, **BY_CLIENT)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text(to_yaml(parse_recipe(to_plain(recipe) | {"stream": None})))
    for place in (tmp_path / "run", folder / f"windows/{window(0)}"):
        with pytest.raises(RecipeError, match="the directory of a run, not of a stream; use another"):
            stream(recipe, place, once=True)
    with pytest.raises(InputError, match="the directory of a stream; that of a window is wanted"):
        open_release(folder)


@pytest.mark.parametrize("part", ["positions", "clients"])
def test_a_damaged_file_of_the_registry_is_named(copied, part):
    """They were internal errors."""
    store = open_store(copied.folder / "stream")
    name = f"private/registry/{part}/{window(0)}.parquet"
    store.commit(name, store.read(name)[:-9], replace=True)
    with pytest.raises(InputError, match=f"{name}: damaged"):
        copied.until(2.5)
    assert not store.exists(f"windows/{window(1)}/ledger.jsonl")


def test_what_others_put_beside_published_windows_is_no_window(copied, capsys):
    """A web server's index.json was taken for one, and the stream said that its registry lacked windows."""
    for folder in ("published", "private/registry/manifests"):
        (copied.folder / f"stream/{folder}/index.json").write_text("{}")
    assert copied.until(2.5).exists(f"published/{window(1)}.json")
    assert main(["status", str(copied.folder / "stream")]) == 0
    assert "windows published      2" in capsys.readouterr().out


def test_a_damaged_manifest_of_a_window_is_named(copied):
    store = open_store(copied.folder / "stream")
    name = manifest_name(window(0))
    store.commit(name, store.read(name)[:-9], replace=True)
    with pytest.raises(InputError, match=f"{name}: damaged"):
        read_manifest(store.at(name))


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


def test_no_file_of_a_window_stops_the_stream(tmp_path):
    """Packed or empty ones, whose lines are rejects, folders, and links to nothing: no files at all."""
    life = Life(tmp_path, KEEP | {"data__path": str(tmp_path / "in")})
    folder = put(life.folder, 0, "a", [1]).parent
    (folder / "2026-12-01-folder.jsonl").mkdir()
    (folder / "2026-12-01-empty.jsonl").touch()
    (folder / "2026-12-01-packed.jsonl").write_bytes(b"\x1f\x8b\x08packed")
    (folder / "2026-12-01-large.jsonl").write_bytes(b"\x1f\x8b\x08" + bytes(2 << 20))
    (folder / "2026-12-01-link.jsonl").symlink_to("/nowhere")
    (folder / "no-stamp.jsonl").write_text("{}\n")
    store = life.until(1.5)
    names = ("a", "empty", "large", "packed")
    assert manifest(store, 0)["positions"] == [f"2026-12-01-{name}.jsonl" for name in names]
    assert manifest(store, 0)["rejects"] == [
        {"position": "no-stamp.jsonl", "kind": "no stamp that stream.stamp can read"}
    ]
    assert sum(counts(store, 0)) == 1


def test_a_first_line_that_looks_like_another_format_takes_no_other_record_away(tmp_path):
    """Each line of JSONL is a record, so the first one must not decide over its file."""
    votes = []
    for name, first in (("with", b"\x1f\x8b\x08\n"), ("without", b"")):
        life = Life(tmp_path / name, KEEP)
        path = put(life.folder, 0, "a", [3, 3, 9])
        path.write_bytes(first + path.read_bytes())
        votes.append(counts(life.until(1.5), 0))
    assert sum(votes[0]) == sum(votes[1]) == 3


def test_a_damaged_page_of_a_parquet_file_takes_rows_of_its_file_alone(tmp_path):
    """A truncated footer, a column that is missing and one of a wrong type are rejects of whole files."""
    life = Life(
        tmp_path,
        {"data__source": "parquet", "data__path": str(tmp_path / "in"), "stream__stamp": "%Y-%m-%d*.parquet", **KEEP},
    )
    folder = tmp_path / "in"
    folder.mkdir()
    whole = pa.table({"x": pa.array([i % 20 for i in range(3000)])})
    for name, table in (
        ("a", whole),
        ("cut", whole),
        ("other", pa.table({"y": [1]})),
        ("kind", pa.table({"x": [[1]]})),
    ):
        pq.write_table(table, folder / f"2026-12-01-{name}.parquet")
    pq.write_table(whole, folder / "2026-12-01-page.parquet", row_group_size=1000, use_dictionary=False)
    second = pq.ParquetFile(folder / "2026-12-01-page.parquet").metadata.row_group(1).column(0)
    with (folder / "2026-12-01-page.parquet").open("r+b") as file:
        file.seek(second.data_page_offset)
        file.write(b"\xff" * second.total_compressed_size)
    with (folder / "2026-12-01-cut.parquet").open("r+b") as file:
        file.truncate(100)
    store = life.until(1.5)
    assert manifest(store, 0)["positions"] == ["2026-12-01-a.parquet", "2026-12-01-page.parquet"]
    assert len(manifest(store, 0)["rejects"]) == 3
    assert sum(counts(store, 0)) == 3000


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("in/*.jsonl", "an absolute path is wanted"),
        ("/nowhere/in/*.jsonl", "/nowhere/in is not there"),
        ("/nowhere/in", "/nowhere/in is not there"),
        ("/nowhere/in#train", "a split is refused"),
    ],
)
def test_a_path_that_may_name_nothing_is_not_taken_for_an_empty_window(tmp_path, path, said):
    with pytest.raises(InputError, match=said):
        Life(tmp_path, {"data__path": path}).until(1.5)
    assert not (tmp_path / "stream/private/registry/manifests").exists()


def test_files_of_a_stream_are_none_of_its_records(tmp_path):
    recipe = stream_recipe(tmp_path, data__path=str(tmp_path / "in"))
    with pytest.raises(RecipeError, match="the stream's directory lies in it"):
        stream(recipe, tmp_path / "in/stream", once=True)


@pytest.mark.parametrize("anchor", ["0001-01-01T00:00+05:00", "9999-12-31T00:00Z", "1969-01-01T00:00Z"])
def test_a_schedule_that_no_calendar_has_is_refused(tmp_path, anchor):
    with pytest.raises(RecipeError, match="a year from 1970 on"):
        stream_recipe(tmp_path, stream__window={"every": "1d", "anchor": anchor})


def test_who_begins_long_ago_is_told_how_many_windows_are_due(tmp_path):
    told, clock = io.StringIO(), Clock(FIRST + 2000.5 * DAY)
    recipe = stream_recipe(tmp_path, stream__window={"every": "1d", "anchor": "2026-12-01T00:00Z"})
    around = Surroundings(now=clock.now, progress=told)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pe_beam.streams.loop._Stream._run", _interrupt)
        stream(recipe, tmp_path / "stream", once=True, around=around)
    assert "the first of 2000 that are due" in told.getvalue()
    assert status(open_store(tmp_path / "stream"), clock.now())["windows_due"] == "1999"


def _interrupt(*_):
    raise KeyboardInterrupt
