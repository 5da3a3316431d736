"""nearest-image: a public set of pictures as a generator, its index, and what may go wrong with both."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pe_beam.contracts.generator import Step
from pe_beam.contracts.service import Service, Surroundings
from pe_beam.errors import DataError, EmptyInputError, RecipeError, StorageError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import decode_image, encode_png
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.modalities.image.simulators import nearest, picture_set
from pe_beam.modalities.image.simulators.fitting import fitted
from pe_beam.modalities.image.simulators.nearest import NearestImage, NearestImageOptions
from pe_beam.testing import check_generator

STEP = Step(iteration=1, iterations=1, degree=0.5)


def _rngs(count, purpose="test"):
    return [keyed_rng(3, 1, i, purpose) for i in range(count)]


def _picture(seed):
    rng = np.random.default_rng(seed)
    array = np.full((12, 12, 3), rng.integers(0, 256, 3), np.uint8)
    array[4:8, 4:8] = rng.integers(0, 256, 3)
    return encode_png(array)


@pytest.fixture
def public(tmp_path):
    """60 pictures in folders a and b."""
    for i in range(60):
        place = tmp_path / "set" / "ab"[i % 2] / f"{i:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_picture(i))
    return tmp_path / "set"


def _generator(public, declared=("a", "b"), **options):
    given = {"path": str(public), "embedder": {"name": "pixels", "size": 4, "mode": "rgb"}, "neighbours": 5}
    given |= {"index": str(public.parent / "index")} | options
    return NearestImage(NearestImageOptions.model_validate(given), labels=list(declared))


def _random(generator, count=40, labels=("a", "b")):
    asked = [labels[i % len(labels)] for i in range(count)]
    return generator.random(asked, _rngs(count, "random")).append_column("label", pa.array(asked, pa.string()))


def _states(table):
    return [json.loads(text) for text in table["state"].to_pylist()]


@pytest.mark.parametrize("options", [{}, {"labels": "own"}, {"side": 8, "mode": "gray"}, {"neighbours": 1000}])
def test_it_keeps_the_contract(public, options):
    check_generator(_generator(public, **options), MODALITY, labels=["a", "b"])


def test_scans_of_twelve_bits_are_read_by_declared_levels(tmp_path):
    values = np.arange(144, dtype=np.uint16).reshape(12, 12) * 28
    (tmp_path / "set").mkdir()
    Image.fromarray(values).save(tmp_path / "set/scan.png")

    def read(**options):
        generator = _generator(tmp_path / "set", mode="gray", neighbours=1, **options)
        return generator.pictures.key, np.asarray(decode_image(_random(generator, 1)["image"][0].as_py(), mode="L"))

    (plain, dark), (other, seen) = read(), read(levels=[0, 4095])
    assert plain != other
    assert dark.max() == 16
    assert np.array_equal(seen, np.rint(values / 4095 * 255))
    with pytest.raises(ValueError, match=r"\[black, white\] is wanted, -32768 to 65535"):
        _generator(tmp_path / "set", levels=[4095, 0])


def test_candidates_are_the_sets_pictures_and_variations_their_nearest(public):
    generator = _generator(public, neighbours=[4, 1])
    parents = _random(generator)
    files = sorted(public.rglob("*.png"))
    vectors = Pixels(PixelsOptions(size=4, mode="rgb")).embed(
        pa.table({"image": [file.read_bytes() for file in files]})
    )
    squares = ((vectors.vectors[:, None].astype(float) - vectors.vectors[None]) ** 2).sum(axis=2)
    varied = generator.vary(parents, Step(iteration=1, iterations=2, degree=0.5), _rngs(40, "vary"))
    ranks = []
    for before, after, data in zip(_states(parents), _states(varied), varied["image"].to_pylist(), strict=True):
        order = np.argsort(squares[before["picture"]], kind="stable")
        assert after["picture"] == order[after["rank"]]
        assert (np.asarray(decode_image(data, mode="RGB")) == np.asarray(Image.open(files[after["picture"]]))).all()
        ranks.append(after["rank"])
    assert set(ranks) == {0, 1, 2, 3}
    still = generator.vary(parents, Step(iteration=2, iterations=2, degree=0.5), _rngs(40, "vary"))
    assert still["image"] == parents["image"]


def test_own_labels_stay_among_their_own_pictures(public):
    generator = _generator(public, labels="own")
    parents = _random(generator)
    varied = generator.vary(parents, STEP, _rngs(40, "vary"))
    for table in (parents, varied):
        for state, label in zip(_states(table), parents["label"].to_pylist(), strict=True):
            assert ("a" if state["picture"] < 30 else "b") == label  # sorted by path


def test_lookahead_asks_the_search_once(public, monkeypatch):
    generator = _generator(public)
    parents = _random(generator)
    generator.vary(parents, STEP, _rngs(40, "vary"))
    search, asked = generator.pictures.neighbours, []
    nearest = search.nearest
    monkeypatch.setattr(search, "nearest", lambda rows, *rest: asked.extend(rows) or nearest(rows, *rest))
    before = {key for key, _ in generator._known}
    again = generator.vary(parents, STEP, _rngs(40, "lookahead/1"))
    assert not before & set(asked)
    assert again.equals(_generator(public).vary(parents, STEP, _rngs(40, "lookahead/1")))


def test_parquet_with_a_label_column_is_a_set_too(public, tmp_path):
    files = sorted(public.rglob("*.png"))
    table = pa.table({"file": [file.read_bytes() for file in files], "kind": [file.parent.name for file in files]})
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=7)
    columns = {"image": "file", "label": "kind"}
    made = _generator(tmp_path / "set.parquet", source="parquet", columns=columns, labels="own")
    wanted = _generator(public, labels="own")
    assert _random(made)["image"] == _random(wanted)["image"]


def test_a_set_of_a_package_is_one_too(tmp_path):
    labels = [str(x) for x in range(10)]
    options = {"path": "digits", "source": "sklearn", "labels": "own", "index": str(tmp_path), "neighbours": 3}
    options |= {"embedder": {"name": "pixels"}, "mode": "gray"}
    generator = NearestImage(NearestImageOptions.model_validate(options), labels=labels)
    check_generator(generator, MODALITY, labels=labels)
    assert generator.pictures.count == 1797


def test_pictures_are_cut_to_a_square_in_the_middle():
    wide = Image.new("RGB", (60, 30), "black")
    wide.paste("white", (15, 0, 45, 30))
    assert np.asarray(fitted(wide, 10)).min() > 220  # a filter reaches a pixel beyond its box
    assert fitted(wide, None) is wide


def test_pictures_that_cannot_be_read_are_left_out_up_to_a_share(public):
    (public / "a" / "zz.png").write_bytes(b"no picture")
    (public / "a" / "notes.txt").write_text("skipped")
    assert _generator(public).pictures.count == 60
    for i in range(10):
        (public / "a" / f"z{i}.png").write_bytes(b"no picture")
    with pytest.raises(RecipeError, match=r"generator\.path: 11 of 71 pictures .*image that cannot be read: 11"):
        _generator(public).ready()
    assert not list((public.parent / "index").glob("*.new-*"))


def test_a_set_that_has_changed_is_refused(public):
    parents = _random(_generator(public))
    (public / "a" / "00.png").unlink()
    with pytest.raises(RecipeError, match="not those that this run began with"):
        _generator(public).vary(parents, STEP, _rngs(40))


@pytest.mark.parametrize("harm", ["short", "gone", "garbage", "other version", "no folder"])
def test_a_torn_index_is_made_anew(public, harm):
    whole = _random(_generator(public))
    (place,) = (path for path in (public.parent / "index").iterdir() if path.is_dir())
    if harm == "short":
        data = (place / "vectors.npy").read_bytes()
        (place / "vectors.npy").write_bytes(data[:-4])
    elif harm == "gone":
        (place / "images.bin").unlink()
    elif harm == "garbage":
        (place / "set.json").write_text("[]")
    elif harm == "other version":
        about = json.loads((place / "set.json").read_text()) | {"version": 0}
        (place / "set.json").write_text(json.dumps(about))
    else:
        shutil.rmtree(place)
        place.write_text("in the way")
        place.unlink()
    assert _random(_generator(public)) == whole


def test_the_index_is_built_once_and_what_a_dead_builder_left_is_swept(public, monkeypatch):
    built = []
    rebuild = picture_set._rebuild
    monkeypatch.setattr(picture_set, "_rebuild", lambda *given: built.append(1) or rebuild(*given))
    generator = _generator(public)
    place = public.parent / "index" / f"{generator.pictures.key}.new-dead"
    place.mkdir()
    _generator(public).ready()
    assert len(built) == 1
    shutil.rmtree(public.parent / "index" / generator.pictures.key)
    _generator(public).ready()
    assert len(built) == 2 and not place.exists()


def _build(public, start, answers):
    start.wait(300)
    answers.put(_random(_generator(Path(public)))["image"].to_pylist())


def test_two_processes_that_build_at_once_do_not_clash(public):
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_build, args=(str(public), start, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join(300)
    assert found[0] == found[1] == found[2] == _random(_generator(public))["image"].to_pylist()
    assert len([path for path in (public.parent / "index").iterdir() if path.is_dir()]) == 1


def test_another_embedder_or_size_is_another_index(public):
    keys = {
        _generator(public, **options).pictures.key
        for options in ({}, {"side": 8}, {"embedder": {"name": "pixels", "size": 2}}, {"labels": "own"})
    }
    assert len(keys) == 4


def test_the_usual_place_is_the_users_cache(public, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _generator(public, index=None).ready()
    assert list((tmp_path / "cache/pe_beam/pictures").glob("*/set.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedder": {"name": "nothing"}}, r"generator\.embedder\.name: 'nothing' is not known"),
        ({"embedder": {"name": "hashed-words"}}, r"generator\.embedder\.name: 'hashed-words' is not allowed"),
        ({"embedder": {"name": "pixels", "sise": 3}}, r"generator\.embedder\.sise"),
        ({"source": "folders"}, r"generator\.source: 'folders' is not known"),
        ({"source_options": {"a": 1}}, r"generator\.source_options"),
        ({"columns": {"image": "x"}}, r"generator\.columns: source 'folder' makes no use"),
        ({"path": "gs://there"}, r"generator\.path: .* files on this machine"),
    ],
)
def test_wrong_options_are_named(public, options, message):
    with pytest.raises(RecipeError, match=message):
        _generator(public, **options)


def test_labels_that_the_set_lacks_are_named(public):
    with pytest.raises(RecipeError, match="no pictures of label 'c'"):
        NearestImage(_generator(public, labels="own")._options, labels=["a", "c"]).ready()
    with pytest.raises(RecipeError, match=r"generator\.path: no picture there is of one of data\.labels"):
        NearestImage(_generator(public, labels="own")._options, labels=["c", "d"]).ready()
    with pytest.raises(RecipeError, match=r"data\.labels declares none"):
        NearestImage(_generator(public, labels="own")._options, labels=[None])


@pytest.mark.parametrize("neighbours", [0, [1, 2], {"from": 10, "to": 0}])
def test_wrong_schedules_are_refused_before_anything_is_read(public, neighbours):
    with pytest.raises(RecipeError, match=r"generator\.neighbours"):
        _generator(public, neighbours=neighbours).attach(Surroundings(iterations=3, service=Service(), folder=None))


def test_a_place_without_pictures(public, tmp_path):
    with pytest.raises(DataError, match=r"generator\.path"):
        _generator(tmp_path / "nowhere", index=str(tmp_path / "i")).ready()
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyInputError, match=r"generator\.path"):
        _generator(tmp_path / "empty", index=str(tmp_path / "i")).ready()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"generator\.index"):
        _generator(public, index=str(tmp_path / "file" / "below")).ready()


def test_a_run_of_it(public, tmp_path, small):
    from pe_beam.driver.loop import evolve
    from pe_beam.recipe.loading import parse_recipe

    small["data"] = {"source": "folder", "path": str(public), "labels": ["a", "b"]}
    small["generator"] = {"name": "nearest-image", "path": str(public), "neighbours": {"from": 8, "to": 2}}
    small["generator"] |= {"embedder": {"name": "pixels"}, "index": str(tmp_path / "i")}
    small["evolution"] |= {"lookahead": 2}
    run = evolve(parse_recipe(small), tmp_path / "run")
    samples = pq.read_table(pa.BufferReader(run.store.read("release/samples.parquet")))
    assert samples.num_rows == 40
    assert {"picture", "rank", "set"} == set(json.loads(samples["state"][0].as_py()))


def test_threads_share_it(public, monkeypatch):
    """Workers of one process vary at once. What one has looked up, another may let go of before it is taken."""
    monkeypatch.setattr(nearest, "_CACHED", 60)
    monkeypatch.setattr(nearest, "OrderedDict", _Between)
    generator = _generator(public)
    some, others = _random(generator, 8), _random(generator, 40).slice(20)
    wanted = generator.vary(some, STEP, _rngs(8))
    meanwhile = threading.Thread(target=generator.vary, args=(others, STEP, _rngs(20)))
    monkeypatch.setattr(_Between, "meanwhile", meanwhile)
    assert generator.vary(some, STEP, _rngs(8)) == wanted
    meanwhile.join()


class _Between(nearest.OrderedDict):
    """Lets another thread go on between a look at an entry and what is made of it."""

    meanwhile = None

    def get(self, key):
        found, other = super().get(key), self.meanwhile
        if found is not None and other is not None and other.ident is None:
            other.start()
            other.join(0.5)
        return found
