"""The page over a stream's windows, and what its holder may ask of it."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.errors import InputError
from pe_beam.streams.report import report
from pe_beam.streams.status import status
from tests.streams.drifting import DAY, FIRST, Life, put, window


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Three windows of rows that jump from low to high in the last one; each starts from the one before."""
    life = Life(tmp_path_factory.mktemp("stream"), {"stream__fresh": 0.3, "privacy__epsilon": 100})
    for day, value in enumerate((2, 2, 17)):
        put(life.folder, day, "a", [value] * 200)
    return life.until(3.5)


def test_the_page_shows_the_promise_samples_drift_and_links(stream):
    text = stream.read("report.html").decode()
    promise = json.loads(stream.read("stream.json"))
    assert promise["statement"].split(".")[0] in text
    assert "What changes" in text
    assert [f"windows/{window(day)}/release/report.html" in text for day in range(3)] == [True] * 3
    rows = re.findall(
        r"<tr><th scope=\"row\">(2026-12-0\d)</th><td class=\"n\">(.*?)</td><td class=\"n\">(.*?)</td>", text
    )
    votes = {name: tuple(float(x.replace("−", "-")) for x in values) for name, *values in rows}
    assert votes["2026-12-03"][1] > votes["2026-12-03"][0]  # after the jump the new candidates get the votes
    assert "://" not in re.sub(r"http://www.w3.org/\S+", "", text)


def test_the_page_reads_what_is_released_and_nothing_else(stream, tmp_path, monkeypatch):
    asked = []
    real = type(stream).open

    def noting(self, name):
        asked.append(name)
        return real(self, name)

    monkeypatch.setattr(type(stream), "open", noting)
    before = stream.read("report.html")
    report(stream)
    assert stream.read("report.html") == before
    assert asked
    assert all(name.split("/")[2].startswith("release") for name in asked)


def test_a_holder_sees_where_a_stream_stands(stream, capsys):
    found = status(stream, FIRST + 5.5 * DAY)
    assert (found["windows_closed"], found["windows_published"], found["windows_due"]) == (3, 3, "2")
    assert found["next_window_closes"] == "2026-12-05T02:00:00Z"
    assert main(["status", stream.uri]) == 0
    assert main(["privacy", stream.uri, "--json"]) == 0
    said = capsys.readouterr().out
    assert '"window": "20261203T000000Z"' in said
    assert "hmac" not in said


def test_samples_of_the_newest_window_are_exported(stream, tmp_path):
    assert main(["export", stream.uri, "--to", str(tmp_path / "x.csv")]) == 0
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 21


def test_the_registry_gets_the_promise_of_all_windows(stream, tmp_path, capsys):
    assert main(["export", stream.uri, "--to", str(tmp_path / "e.yaml"), "--as", "registry"]) == 0
    loss = yaml.safe_load((tmp_path / "e.yaml").read_text())["deployment"]["privacy_loss"]
    promise = json.loads(stream.read("stream.json"))
    assert loss["privacy_parameters_details"] == promise["statement"]
    one = f"{stream.uri}/windows/{window(2)}"
    assert main(["export", one, "--to", str(tmp_path / "one.yaml"), "--as", "registry"]) == 2
    assert "one window of a stream; the stream's directory is wanted" in capsys.readouterr().err


def test_without_a_published_window_there_is_no_page(tmp_path):
    store = Life(tmp_path).until(0.5)
    with pytest.raises(InputError, match="no window is published yet"):
        report(store)
    assert status(store)["last_published"] is None
