"""Windows close, run and are published in order, at instants of the schedule, whatever the data (rule 16)."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.errors import DataError, InputError, RecipeError, ServiceError
from pe_beam.recipe.identity import to_yaml
from pe_beam.recipe.plan import make_plan
from pe_beam.streams.closing import stream_source
from pe_beam.streams.loop import Surroundings, stream
from tests.streams.drifting import (
    DAY,
    FIRST,
    Clock,
    Life,
    counts,
    manifest,
    put,
    released,
    secrets,
    stream_recipe,
    window,
)

KEEP = {"stream__keep_private": True}


def test_a_record_more_changes_the_counts_of_its_window_by_its_vote_and_no_byte_of_another(tmp_path):
    """Also where files come in another order, bundles run twice, or a file comes too late; the secrets are the same."""
    lives = []
    for name, rows, order in (("with", [3, 3, 9], 1), ("without", [3, 3], -1)):
        life = Life(tmp_path / name, KEEP, [] if order > 0 else ["--direct_runner_bundle_repeat=1"])
        for day, values in ((0, [1, 2]), (1, rows), (2, [4, 5, 6])):
            for part in (0, 1)[::order]:
                put(life.folder, day, f"{part}", values[part::2])
        store = life.until(2.1)
        put(life.folder, 0, "late", [8] * 5)
        assert life.until(3.5).uri == store.uri
        lives.append(store)
    for day in (0, 2):
        assert released(lives[0], day) == released(lives[1], day)
        assert counts(lives[0], day) == counts(lives[1], day)
    apart = [abs(a - b) for a, b in zip(counts(lives[0], 1), counts(lives[1], 1), strict=True)]
    assert sorted(apart)[-2:] == [0, 1]
    assert manifest(lives[0], 2)["rejects"] == [
        {"position": f"{FIRST:%Y-%m-%d}-late.jsonl", "kind": "stamped before this window, and in no earlier one"}
    ]


class _Told(io.StringIO):
    """Notes at which instants of a clock windows are said to be published."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.published = clock, []

    def write(self, text: str) -> int:
        if "published" in text:
            self.published.append(self.clock.at.isoformat())
        return super().write(text)


def test_windows_of_no_record_of_one_and_of_many_are_published_at_the_same_instants(tmp_path):
    """Processing takes the longer the more there is; a release that was not ready in time is called missed."""
    notes = {}
    for rows in (0, 1, 3000):
        folder = tmp_path / str(rows)
        put(folder, 0, "a", [7] * rows)
        clock = Clock(FIRST, stop=FIRST + 2 * DAY)
        told = _Told(clock)
        around = Surroundings(now=clock.now, sleep=clock.sleep, progress=told, secrets=secrets(folder / "s"))
        with pytest.raises(KeyboardInterrupt):
            stream(stream_recipe(folder), folder / "stream", around=around)
        note = json.loads((folder / f"stream/published/{window(0)}.json").read_text())
        notes[rows] = told.published, note, sorted(p.name for p in (folder / "stream").rglob("release/**/*"))
        found = b"".join(p.read_bytes() for p in (folder / "stream/windows").rglob("release/*.json"))
        stamps = set(re.findall(rb"20\d\d-\d\d-\d\dT[0-9:]+Z", found))
        assert stamps == {b"2026-12-01T00:00:00Z"}
    assert notes[0] == notes[1] == notes[3000]
    assert notes[0][0] == [(FIRST + DAY + timedelta(hours=4)).isoformat()]
    assert notes[0][1]["missed"] is False


def test_no_time_of_what_is_published_says_how_long_a_window_took(tmp_path):
    """A copy keeps the times of files. Note and page of a late window are written once its private stages are over."""
    life = Life(tmp_path)
    put(life.folder, 0, "a", [7])
    store = life.until(1.5)
    root = Path(store.uri)
    shared = [root / "report.html", root / "published", *(root / "published").iterdir()]
    shared += (root / f"windows/{window(0)}").rglob("release/**/*")
    assert {path.stat().st_mtime for path in shared} == {315532800.0}


def test_what_was_missed_is_made_up_in_order_by_the_same_stamps(tmp_path):
    """A driver that was down, and one that came each day, release the same bytes; but the one knows that it missed."""
    daily, late = Life(tmp_path / "daily"), Life(tmp_path / "late")
    for life in (daily, late):
        for day in range(3):
            put(life.folder, day, "a", [day, day])
    for day in range(1, 4):
        daily.until(day + 3 / 24)
        store = daily.until(day + 5 / 24)
    other = late.until(3.5)
    for day in range(3):
        mine, theirs = released(store, day), released(other, day)
        published = f"published/{window(day)}.json"
        assert {k: v for k, v in mine.items() if k != published} == {k: v for k, v in theirs.items() if k != published}
        assert json.loads(other.read(published))["missed"] is True
        assert json.loads(store.read(published))["missed"] is False


def test_a_stream_that_goes_on_outlasts_a_service_that_does_not_answer(tmp_path):
    put(tmp_path, 0, "a", [1])
    clock, told = Clock(FIRST, stop=FIRST + 1.5 * DAY), io.StringIO()
    failing = [ServiceError("the service does not answer")]

    def source(recipe):
        made = stream_source(recipe)
        cut = made.cut
        made.cut = lambda *given: cut(*given) if not failing else (_ for _ in ()).throw(failing.pop())
        return made

    around = Surroundings(now=clock.now, sleep=clock.sleep, progress=told)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pe_beam.streams.closing.stream_source", source)
        stream(stream_recipe(tmp_path), tmp_path / "stream", around=around)
    assert "does not answer; tries again in 300 s" in told.getvalue()
    assert (tmp_path / f"stream/published/{window(0)}.json").exists()


def test_private_parts_are_purged_when_published_and_the_registry_stays(tmp_path):
    life = Life(tmp_path, {"stream__keep": 2})
    put(life.folder, 0, "a", [1])
    store = life.until(1.1)  # closed and run, not published
    assert store.exists(f"windows/{window(0)}/private/secret.key") is False  # deleted at the run's end
    assert store.list_files(f"windows/{window(0)}/private")
    store = life.until(4.5)
    assert store.list_files("published") == [f"published/{window(day)}.json" for day in range(4)]
    assert not store.list_files(f"windows/{window(1)}")
    for day in (2, 3):
        names = store.list_files(f"windows/{window(day)}")
        assert any("/release/samples.parquet" in name for name in names)
        assert [name for name in names if "/private/" in name] == [
            f"windows/{window(day)}/private/secret.json"
        ] or not [name for name in names if "/private/" in name]
    kept = store.list_files("private/registry")
    assert "private/registry/key" in kept
    assert f"private/registry/positions/{window(3)}.parquet" in kept
    assert len([name for name in kept if "/positions/" in name]) == 1
    assert len([name for name in kept if "/manifests/" in name]) == 4


@pytest.mark.parametrize("lost", ["private/registry/key", "private/registry/manifests", "private/registry/positions"])
def test_without_its_registry_a_stream_does_not_go_on(tmp_path, lost):
    life = Life(tmp_path)
    put(life.folder, 0, "a", [1])
    store = life.until(1.5)
    put(life.folder, 1, "a", [1])
    store.remove(lost)
    before = store.read("stream-ledger.jsonl")
    with pytest.raises(InputError, match="private/registry"):
        life.until(2.5)
    assert store.read("stream-ledger.jsonl") == before


def test_another_promise_is_another_stream(tmp_path):
    life = Life(tmp_path)
    life.until(0.5)
    for changes in ({"privacy__epsilon": 3}, {"stream__window": {"every": "2d", "anchor": "2026-12-01T00:00Z"}}):
        with pytest.raises(RecipeError, match="another recipe; it differs in"):
            Life(tmp_path, changes).until(0.5)
    said = json.loads((tmp_path / "stream/stream.json").read_text()) | {"mu": 0.1}
    (tmp_path / "stream/stream.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="promises another mu; another promise is another stream"):
        life.until(0.5)


def test_a_stream_that_begins_says_what_its_plan_warns_of(tmp_path):
    """Once: each window would say it. Nobody said it."""
    recipe, lines = stream_recipe(tmp_path, privacy__delta=0.1), []
    for days in (0.5, 1.5, 2.5):
        around = Surroundings(now=Clock(FIRST + days * DAY).now, progress=(told := io.StringIO()))
        stream(recipe, tmp_path / "stream", once=True, around=around)
        lines.append(told.getvalue())
    assert ["warning: privacy.delta: 0.1 is large" in said for said in lines] == [True, True, False]


def test_a_schedule_that_leaves_no_time_for_a_run_is_warned_of(tmp_path):
    """Each window is missed then, an output that the promise excludes. With close_after 0s it is the default."""
    schedule = {"every": "1d", "anchor": "2026-12-01T00:00Z", "close_after": "2h"}
    for publish_after, told in (("2h", True), ("121m", False)):
        recipe = stream_recipe(tmp_path, stream__window=schedule | {"publish_after": publish_after})
        assert any("each is published late" in said for said in make_plan(recipe).warnings) is told


def test_before_its_first_window_a_stream_may_be_deleted_for_another_recipe(tmp_path):
    life, other = Life(tmp_path), Life(tmp_path, {"privacy__epsilon": 3})
    for days, told in ((0.5, True), (1.5, False)):
        life.until(days)
        with pytest.raises(RecipeError, match="Use another directory") as error:
            other.until(days)
        assert ("no window is closed in this one yet, so it may be deleted" in str(error.value)) is told


def test_what_cannot_be_read_leaves_no_stream(tmp_path):
    with pytest.raises(RecipeError, match="an absolute path is wanted for a stream"):
        Life(tmp_path, {"data__path": "in/*.jsonl"}).until(0.5)
    assert not (tmp_path / "stream/stream.json").exists()


def test_a_window_whose_secret_is_anothers_is_refused_before_it_spends(tmp_path):
    recipe = stream_recipe(tmp_path)
    one = secrets(tmp_path / "secrets")("20261201T000000Z")
    clock = Clock(FIRST + 2.5 * DAY)
    with pytest.raises(InputError, match="has the secret of another window"):
        stream(recipe, tmp_path / "s", once=True, around=Surroundings(now=clock.now, secrets=lambda _: one))
    assert not (tmp_path / f"s/windows/{window(1)}/ledger.jsonl").exists()


def test_a_window_that_has_spent_is_never_run_in_a_new_directory(tmp_path):
    life = Life(tmp_path)
    put(life.folder, 0, "a", [1])
    store = life.until(1.1)
    for lost in (f"windows/{window(0)}", f"private/registry/finished/{window(0)}"):
        store.remove(lost)
    recipe, clock = stream_recipe(tmp_path), Clock(FIRST + 1.1 * DAY)
    with pytest.raises(InputError, match="was paid for with other members, another secret"):
        stream(recipe, tmp_path / "stream", once=True, around=Surroundings(now=clock.now))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_file_that_changes_after_its_window_closed_is_refused(tmp_path):
    life = Life(tmp_path)
    put(life.folder, 0, "a", [1])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pe_beam.streams.loop._Stream._run", _interrupt)
        life.until(1.1)
    path = put(life.folder, 0, "a", [2])
    put(life.folder, 0, "b", [2])  # too late: it is no member
    with pytest.raises(DataError, match="a file has changed after its window was closed"):
        life.until(1.1)
    path.write_text(json.dumps({"x": 1}) + "\n")
    assert len(manifest(life.until(1.1), 0)["positions"]) == 1


def test_a_recipe_of_a_stream_is_run_by_no_other_command(tmp_path, capsys):
    recipe = stream_recipe(tmp_path)
    with pytest.raises(RecipeError, match="run by `pe-beam stream`"):
        evolve(recipe, tmp_path / "run")
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    assert main(["plan", str(tmp_path / "r.yaml")]) == 0
    assert main(["stream", str(tmp_path / "r.yaml"), "--stream-dir", str(tmp_path / "s"), "--once"]) == 0
    assert "stream.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__never_stop": False}, "data.never_stop: true is wanted with stream"),
        ({"data__source": "csv"}, "never_stop: refused for source csv"),
        ({"data__source": "mnist"}, "stream: source mnist has no windows; allowed: folder, jsonl"),
        ({"stream__client_windows": 2}, "only with privacy.unit: client"),
        ({"stream__window": {"every": "1d", "anchor": "2026-12-01"}}, "an instant with its offset from UTC"),
        ({"stream__window": {"every": "0s", "anchor": "2026-12-01T00:00Z"}}, "every: 1s at least"),
        ({"stream__window": {"every": "1d", "anchor": "2026-12-01T00:00Z", "publish_after": "1d"}}, "publish_after"),
        ({"stream__memory": {}}, "needs evolution.smoothing"),
        ({"stream__trigger": 3}, "unknown key"),
    ],
)
def test_recipes_that_no_stream_can_keep_its_promise_with(tmp_path, changes, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        stream_recipe(tmp_path, **changes)


def test_a_stamp_that_is_the_clock_of_a_disk_is_refused(tmp_path):
    life = Life(tmp_path, {"stream__stamp": None})
    with pytest.raises(RecipeError, match="whose times tell when they were copied"):
        life.until(0.1)
