"""Whole runs on real digits with their secret in each custody, and what ends them."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.custody import keeping
from pe_beam.privacy import secret
from pe_beam.privacy.secret_record import read_record
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.loading import parse_recipe
from pe_beam.storage import open_store
from pe_beam.storage.local import LocalStore
from tests.custody.conftest import Place
from tests.storage.servers import ask_s3, make_bucket, running
from tests.whole_runs import SECRET, SMALL, copied, release_digests


@pytest.fixture
def recipe(small, tmp_path: Path) -> Path:
    """A small recipe with a local secret."""
    return written(small, tmp_path)


def written(small: dict, folder: Path) -> Path:
    path = folder / "recipe-of-a-test.yaml"
    path.write_text(yaml.safe_dump(small))
    return path


def test_a_release_is_that_of_the_local_secret_and_then_the_secret_is_gone(
    place: Place, small, runs, secret_file, tmp_path, capfd, monkeypatch
) -> None:
    small["privacy"]["secret"] = place.recipe
    path, run, seen = written(small, tmp_path), tmp_path / "run", []
    real = keeping.forget_secret

    def look(store) -> None:
        seen.extend(place.values())
        real(store)

    monkeypatch.setattr(keeping, "forget_secret", look)
    assert main(["run", str(path), "--run-dir", str(run), "--secret-file", str(secret_file)]) == 0
    assert seen == [SECRET]
    assert place.values() == []
    local = runs.finished(SMALL)
    assert release_digests(run) == release_digests(local)
    assert (run / "ledger.jsonl").read_bytes() == (local / "ledger.jsonl").read_bytes()
    assert not (run / "private/secret.key").exists()
    assert json.loads((run / "release/privacy.json").read_text())["supplied_secret"] is True
    said = "".join(capfd.readouterr())
    kept_as = [SECRET, SECRET.hex().encode()]
    for file in [*run.rglob("*"), path]:
        assert file.is_dir() or not [form for form in kept_as if form in file.read_bytes()], file
    assert SECRET.hex() not in said
    if place.service is not None:
        asked = dict(place.service.asked)
        assert sum(asked.values()) <= 30
        place.service.denied = set(asked)  # a complete run asks nobody
        assert main(["run", str(path), "--run-dir", str(run)]) == 0
        assert dict(place.service.asked) == asked


@pytest.mark.parametrize("place", ["google-secret-manager"], indirect=True)
def test_a_worker_that_is_denied_says_one_sentence_and_the_run_goes_on_later(
    place: Place, small, runs, secret_file, tmp_path, capfd
) -> None:
    """The driver reads before it writes the line, a worker after it. Destroying is denied at the end, too."""
    service = place.service
    assert service is not None
    small["privacy"]["secret"] = place.recipe
    path, run = written(small, tmp_path), tmp_path / "run"
    arguments = ["run", str(path), "--run-dir", str(run), "--secret-file", str(secret_file)]

    def deny(operation: str) -> None:
        service.denied = {"access"} if operation == "access" and (run / "ledger.jsonl").exists() else set()

    service.before = deny
    assert main(arguments) == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("pe-beam: privacy.secret: pe-beam-")
    assert "reading the secret failed: access is denied" in said
    assert not (run / "release/iteration=0001").exists()

    def deny_the_end(operation: str) -> None:
        is_complete = (run / "release/privacy.json").exists()
        service.denied = {"delete"} if operation == "delete" and is_complete else set()

    service.before = deny_the_end
    assert main(arguments) == 2
    assert "destroying the secret failed: access is denied" in capfd.readouterr().err
    assert place.values() == [SECRET]
    assert read_record(open_store(run)).deleted
    service.before = lambda _: None
    service.denied = set()
    assert main(arguments) == 0
    assert place.values() == []
    local = runs.finished(SMALL)
    assert release_digests(run) == release_digests(local)
    assert (run / "ledger.jsonl").read_bytes() == (local / "ledger.jsonl").read_bytes()


@pytest.mark.parametrize("place", ["driver-file"], indirect=True)
def test_a_file_on_the_drivers_disk_is_refused_where_workers_do_not_see_it(
    place: Place, small, tmp_path, capfd
) -> None:
    small["privacy"]["secret"] = place.recipe
    path, run = written(small, tmp_path), tmp_path / "run"
    for runner in ("PortableRunner", "FlinkRunner", "PrismRunner"):
        assert main(["run", str(path), "--run-dir", str(run), "--", f"--runner={runner}"]) == 2
        said = capfd.readouterr().err.strip()
        assert said.startswith("pe-beam: privacy.secret.custody: driver-file is for runners whose workers run on")
        assert "\n" not in said
    assert sorted(entry.name for entry in run.iterdir()) == ["private", "recipe.yaml", "work"]
    assert list((run / "private").iterdir()) == []
    assert place.values() == []


def test_a_secret_that_was_deleted_is_never_made_again(runs, recipe, secret_file, tmp_path, capfd) -> None:
    run = copied(runs.finished(SMALL), tmp_path / "run")
    before = release_digests(run)
    assert main(["run", str(recipe), "--run-dir", str(run)]) == 0
    (run / "release/privacy.json").unlink()
    for lost in ("nothing", "ledger.jsonl", "private", "work", "release/iteration=0002", "release/iteration=0001"):
        target = run / lost
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        for further in ([], ["--secret-file", str(secret_file)]):
            assert main(["run", str(recipe), "--run-dir", str(run), *further]) == 2
            assert "secret.json: the secret of this run was deleted, and no other one" in capfd.readouterr().err
        assert not (run / "private/secret.key").exists()
    assert {
        name: text for name, text in release_digests(run).items() if "iteration" not in name
    }.items() <= before.items()


def test_a_complete_run_of_before_goes_on_to_be_complete(runs, recipe, tmp_path) -> None:
    run = copied(runs.finished(SMALL), tmp_path / "run")
    (run / "secret.json").unlink()
    before = release_digests(run)
    assert main(["run", str(recipe), "--run-dir", str(run)]) == 0
    assert release_digests(run) == before
    assert json.loads((run / "secret.json").read_text()) == {"version": 1, "deleted": True}


def test_an_unfinished_run_of_before_goes_on(runs, recipe, tmp_path) -> None:
    run = copied(runs.half(SMALL), tmp_path / "run")
    assert not (run / "secret.json").exists()
    assert main(["run", str(recipe), "--run-dir", str(run)]) == 0
    assert release_digests(run) == release_digests(runs.finished(SMALL))


def test_purge_of_an_unfinished_run_leaves_a_tombstone(runs, recipe, tmp_path, capfd) -> None:
    run = copied(runs.half(SMALL), tmp_path / "run")
    assert main(["purge", str(run)]) == 0
    left = sorted(entry.name for entry in run.iterdir())
    assert left == ["ledger.jsonl", "recipe.yaml", "release", "secret.json"]
    (run / "ledger.jsonl").unlink()
    assert main(["run", str(recipe), "--run-dir", str(run)]) == 2
    assert "no other one is ever made" in capfd.readouterr().err


@pytest.mark.parametrize("place", ["aws-secrets-manager"], indirect=True)
def test_purge_destroys_a_secret_that_is_kept_elsewhere_or_deletes_nothing(
    place: Place, small, tmp_path, capfd
) -> None:
    small["privacy"]["secret"] = place.recipe
    run = tmp_path / "run"
    store = open_store(run)
    keeping.ensure_secret(store, place.kind, place.options)
    store.commit("recipe.yaml", yaml.safe_dump(small).encode())
    store.commit("private/counts/x", b"1")
    assert place.service is not None
    place.service.denied = {"DeleteSecret"}
    assert main(["purge", str(run)]) == 2
    assert store.exists("private/counts/x")
    place.service.denied = set()
    assert main(["purge", str(run)]) == 0
    assert place.values() == []
    assert sorted(entry.name for entry in run.iterdir()) == ["recipe.yaml", "secret.json"]
    assert "the release and the ledger stay" in capfd.readouterr().out


def test_a_bucket_that_began_to_keep_deleted_files_is_said_at_the_end(
    runs, recipe, secret_file, tmp_path, monkeypatch, capfd
) -> None:
    run = copied(runs.half(SMALL), tmp_path / "run")
    deleted = lambda store: "versioning is on" if (run / "release/privacy.json").exists() else None  # noqa: E731
    monkeypatch.setattr(LocalStore, "keeps_deleted", deleted)
    assert main(["run", str(recipe), "--run-dir", str(run)]) == 2
    assert "the secret was deleted, but by now versioning is on; delete what the bucket keeps" in capfd.readouterr().err
    assert not (run / secret.SECRET).exists()
    assert main(["run", str(recipe), "--run-dir", str(run)]) == 0
    assert release_digests(run) == release_digests(runs.finished(SMALL))


@pytest.mark.parametrize("place", ["driver-file"], indirect=True)
def test_on_a_bucket_with_versions_the_secret_is_in_none_and_what_lives_on_is_said(
    place: Place, small, secret_file, tmp_path, monkeypatch, capfd
) -> None:
    (tmp_path / "server").mkdir()
    try:
        started = running("s3", tmp_path / "server")
        server = started.__enter__()
    except FileNotFoundError as error:
        pytest.skip(
            f"custody on s3:// with versions was NOT tested: there is no {error}; python -m tests.storage.servers"
        )
    try:
        for name, text in server.environment.items():
            monkeypatch.setenv(name, text)
        make_bucket(server, "kept")
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        ask_s3(server, "PUT", "/kept", "versioning=", body)
        path, uri = written(small, tmp_path), "s3://kept/run"
        assert main(["run", str(path), "--run-dir", uri]) == 2
        assert "versioning is on, and a secret that is deleted must be gone" in capfd.readouterr().err
        assert not open_store(uri).exists("ledger.jsonl")
        small["privacy"]["secret"] = place.recipe
        arguments = ["run", str(written(small, tmp_path)), "--run-dir", uri, "--secret-file", str(secret_file)]
        assert main(arguments) == 0
        assert (
            "versioning is on in s3://kept/run: what is deleted from private/ lives on there" in capfd.readouterr().err
        )
        assert main(["status", uri, "--json"]) == 0
        wanted = "versioning is on: what is deleted from private/ lives on"
        assert json.loads(capfd.readouterr().out)["private_kept"] == wanted
        assert main(["privacy", uri]) == 0
        assert wanted in capfd.readouterr().out
        assert main(["purge", uri]) == 0
        assert "versioning is on: what was deleted lives on in the bucket" in capfd.readouterr().out
        assert place.values() == []
        listed = ET.fromstring(ask_s3(server, "GET", "/kept", "max-keys=1000&versions="))
        tags = [(entry.findtext("{*}Key"), entry.findtext("{*}VersionId")) for entry in listed.iterfind("{*}Version")]
        assert any(str(key).startswith("run/private/counts/") for key, _ in tags)  # which lives on
        for key, version in tags:
            if "=" not in str(key):  # names that need no escaping
                found = ask_s3(server, "GET", f"/kept/{key}", f"versionId={version}")
                assert SECRET not in found, key
        assert not [key for key, _ in tags if "secret.key" in str(key)]
    finally:
        started.__exit__(None, None, None)


def test_custody_is_no_part_of_a_runs_identity_nor_of_its_release(small) -> None:
    from pe_beam.driver.public import recipe_json

    plain = parse_recipe(small)
    small["privacy"]["secret"] = {"custody": "google-secret-manager", "project": "some-project"}
    kept = parse_recipe(small)
    assert run_id(kept) == run_id(plain)
    assert recipe_json(kept) == recipe_json(plain)
    assert kept.privacy.secret is not None
    assert kept.privacy.secret.options == {
        "project": "some-project", "name": None, "location": None, "endpoint": None
    }  # fmt: skip


def test_a_release_is_copied_clean(runs, tmp_path, capfd) -> None:
    run, to = copied(runs.finished(SMALL), tmp_path / "run"), tmp_path / "copy"
    for path in (run / "release").rglob("*"):
        path.touch()  # as in a bucket, which shows when each was written
    (run / "release/note.txt").write_text("of somebody else")
    assert main(["export", str(run), "--to", str(to), "--all"]) == 0
    found = {path.relative_to(to).as_posix(): path.read_bytes() for path in to.rglob("*") if path.is_file()}
    there = {name: (run / "release" / name).read_bytes() for name in release_digests(run) if name != "note.txt"}
    assert found == there
    fixed = {path.stat().st_mtime for path in (runs.finished(SMALL) / "release").rglob("*")}
    assert {path.stat().st_mtime for path in [to, *to.rglob("*")]} == fixed
    assert main(["export", str(run), "--to", str(to), "--all"]) == 2
    assert "an empty or new folder is wanted" in capfd.readouterr().err
    (run / "release/samples.parquet").write_bytes(b"other")
    assert main(["export", str(run), "--to", str(tmp_path / "b"), "--all"]) == 1
    assert "not what its manifest lists" in capfd.readouterr().err
    (run / "release/privacy.json").unlink()
    assert main(["export", str(run), "--to", str(tmp_path / "c"), "--all"]) == 2
