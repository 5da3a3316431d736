"""Whole runs on real digits with their secret in each custody."""

from __future__ import annotations

import json

import yaml

from pe_beam.cli.main import main
from pe_beam.custody import keeping
from tests.custody.conftest import Place
from tests.whole_runs import SECRET, SMALL, release_digests


def test_a_release_is_that_of_the_local_secret_and_then_the_secret_is_gone(
    place: Place, small, runs, secret_file, tmp_path, capfd, monkeypatch
) -> None:
    small["privacy"]["secret"] = place.recipe
    path, run, seen = tmp_path / "r.yaml", tmp_path / "run", []
    path.write_text(yaml.safe_dump(small))
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
        place.service.denied = set(asked)  # a complete run asks nobody
        assert main(["run", str(path), "--run-dir", str(run)]) == 0
        assert place.service.asked == asked
