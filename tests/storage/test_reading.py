"""Private data on object stores: the same pieces, records and digests as on a disk, few requests, and faults."""

from __future__ import annotations

import io
import itertools
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Source
from pe_beam.errors import DataError, InputError, RecipeError, UnreachableError
from pe_beam.recipe.sources import find_source, open_source
from pe_beam.sources import files, lines
from pe_beam.sources.crc32c import masked
from pe_beam.storage import reading
from pe_beam.storage.objects import client_of
from tests.storage.proxy import Proxy
from tests.storage.servers import Server

_NEXT = itertools.count()
TEXT = FieldContent(pa.schema([("text", pa.string())]))
IMAGE = FieldContent(base.IMAGE_SCHEMA)


def _put(server: Server, below: str, data: dict[str, bytes]) -> str:
    """Uploads files by the client of the store; returns the URL of their folder."""
    kind = reading._store_of(server.kind)
    assert kind is not None
    for name, body in data.items():
        client_of(kind, "runs").put(f"{below}/{name}", body, None, "0")
    return f"{server.kind}://runs/{below}"


def _lay(root: Path, data: dict[str, bytes]) -> str:
    for name, body in data.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    return str(root)


def opened(source: str, path: str, content: Any = TEXT) -> Source:
    return open_source(source=source, path=path, content=content, columns={}, labelled=False, client=False)


def _parquet(rows: int, first: int = 0) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [f"row {first + i}" for i in range(rows)]}), sink, row_group_size=7)
    return sink.getvalue()


def _tar(count: int) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for i in range(count):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = 1000
            archive.addfile(member, io.BytesIO(b"%04d" % i * 250))
    return sink.getvalue()


def _tfrecord(count: int) -> bytes:
    found = b""
    for i in range(count):
        # features { feature { key: "image/encoded" value { bytes_list { value: ... } } } }
        value = b"\x0a" + bytes([len(b"%04d" % i)]) + b"%04d" % i
        value = b"\x0a" + bytes([len(value)]) + value
        entry = b"\x0a\x0dimage/encoded\x12" + bytes([len(value)]) + value
        entry = b"\x0a" + bytes([len(entry)]) + entry
        data = b"\x0a" + bytes([len(entry)]) + entry
        size = len(data).to_bytes(8, "little")
        found += size + masked(size).to_bytes(4, "little") + data + masked(data).to_bytes(4, "little")
    return found


def _jsonl(count: int) -> bytes:
    return b"".join(json.dumps({"text": f"text {i} ü"}).encode() + b"\n" for i in range(count))


KINDS: dict[str, tuple[Any, dict[str, bytes]]] = {
    "jsonl": (TEXT, {"a.jsonl": _jsonl(300), "b/c d.jsonl": _jsonl(20), ".x.jsonl": b"{"}),
    "csv": (TEXT, {"a.csv": b"text,n\n" + b'"two\nlines",1\n' * 100, "x=ü/b.csv": b"text\nplain\n", "_SUCCESS": b""}),
    "parquet": (TEXT, {"a.parquet": _parquet(40), "year=2026/b.parquet": _parquet(3, 40), "_delta_log/0.json": b"{}"}),
    "folder": (IMAGE, {f"cat/{i}.png": b"%d" % i * 50 for i in range(7)} | {"readme.md": b"#"}),
    "webdataset": (IMAGE, {"a.tar": _tar(12), "b.tar": _tar(3)}),
    "tfrecord": (IMAGE, {"a.tfrecord": _tfrecord(12)}),
}


SOME = {
    "jsonl": ["a.jsonl", "*.jsonl", "**.jsonl", "b/*", "b/", "?.jsonl"],
    "csv": ["a.csv", "*.csv", "x=*/*.csv"],
    "parquet": ["a.parquet", "*.parquet", "**/*.parquet", "year=*/*"],
    "folder": ["cat"],
    "webdataset": ["[ab].tar", "b.tar"],
    "tfrecord": ["*.tfrecord"],
}


def _seen(source: Source, path: str) -> list[Any]:
    """All that a run takes from a source, with file names relative to the path."""
    found = []
    for piece in source.pieces():
        batches = [(b.payload.to_pylist(), b.labels, b.rows, b.faults) for b in source.read(piece)]
        place = (piece.file.removeprefix(path), piece.name, piece.stop, piece.files, piece.offset, piece.end)
        found.append((place, batches, source.digest(piece)))
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 5)
    monkeypatch.setattr(lines, "LEAST_RANGE", 500)
    monkeypatch.setattr(lines, "MOST_RANGE", 500)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_reads_the_same_from_a_bucket(kind: str, server: Server, small: None, tmp_path: Path) -> None:
    content, data = KINDS[kind]
    local, url = _lay(tmp_path, data), _put(server, f"data-{next(_NEXT)}", data)
    wanted = _seen(opened(kind, local, content), local)
    assert _seen(opened(kind, url, content), url) == wanted and wanted
    for some in SOME[kind]:
        mine, theirs = (opened(kind, f"{root}/{some}", content) for root in (local, url))
        assert [(p.name, p.stop, p.end) for p in theirs.pieces()] == [(p.name, p.stop, p.end) for p in mine.pieces()]


def test_a_file_of_a_bucket_is_read_as_any_other(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FIRST", 64)
    monkeypatch.setattr(reading, "MOST", 512)
    data = random.Random(0).randbytes(20_000).replace(b"x", b"\n")
    url = _put(server, f"data-{next(_NEXT)}", {"x.bin": data})
    chance = random.Random(1)
    with files.open_file(f"{url}/x.bin") as theirs, io.BytesIO(data) as mine:
        for _ in range(120):
            kind = chance.randrange(4)
            if kind == 0:
                place = chance.randrange(len(data) + 10)
                assert theirs.seek(place) == mine.seek(place)
            elif kind == 1:
                assert theirs.seek(-chance.randrange(900), 2) == mine.tell() or theirs.tell()
                mine.seek(theirs.tell())
            elif kind == 2:
                size = chance.choice([1, 10, 100, 3000])
                assert theirs.read(size) == mine.read(size)
            else:
                size = chance.choice([-1, 5, 1000])
                assert theirs.readline(size) == mine.readline(size)
        theirs.seek(0)
        assert theirs.read() == data
    assert b"".join(files.chunks(f"{url}/x.bin")) == data


def test_footers_are_read_at_the_same_time_by_one_request_each(server: Server, proxy: Proxy) -> None:
    place = f"data-{next(_NEXT)}"
    url = _put(server, place, {f"{i:03d}.parquet": _parquet(3) for i in range(60)})
    source = opened("parquet", url)
    source.pieces()  # connections are made
    proxy.requests.clear()
    proxy.meets, proxy.together = lambda asked: ".parquet" in asked, 8
    assert len(source.pieces()) == 60
    assert proxy.most >= 8
    assert 60 <= len(proxy.naming(place)) <= 60 + 3


@pytest.mark.parametrize("source", ["folder", "imagefolder"])
def test_pictures_are_read_at_the_same_time_by_one_request_each(source: str, server: Server, proxy: Proxy) -> None:
    data = {f"{i:03d}.png": b"%d" % i for i in range(60)} | {"empty.png": b""}
    rows = "".join(f"{name}\n" for name in [*data, "nosuch.png"])
    place = f"data-{next(_NEXT)}"
    url = _put(server, place, data | {"metadata.csv": f"file_name\n{rows}".encode()})
    found = opened(source, url, IMAGE)
    (piece,) = found.pieces()
    proxy.requests.clear()
    proxy.meets, proxy.together = lambda asked: ".png" in asked, 8
    batches = list(found.read(piece))
    images = [image for batch in batches for image in batch.payload["image"].to_pylist()]
    assert images == [*data.values()] + ([None] if source == "imagefolder" else [])
    assert [fault.kind for batch in batches for fault in batch.faults.values()] == (
        ["image file that is not there"] if source == "imagefolder" else []
    )
    assert proxy.most >= 8
    assert 61 <= len(proxy.naming(place)) <= 61 + 6
    assert len(found.digest(piece)) == 64


def test_what_passes_by_is_asked_again(server: Server, proxy: Proxy) -> None:
    url = _put(server, f"data-{next(_NEXT)}", {"x.jsonl": _jsonl(30)})
    seen: set[str] = set()

    def first_time(asked: str) -> bool:
        is_new = asked not in seen
        seen.add(asked)
        return is_new

    proxy.busy = first_time
    source = opened("jsonl", url)
    assert [len(b.rows) for piece in source.pieces() for b in source.read(piece)] == [30]


@pytest.mark.parametrize("source", ["jsonl", "parquet", "folder"])
def test_a_bucket_that_is_not_there_is_said_in_one_sentence(source: str, server: Server) -> None:
    with pytest.raises(
        InputError, match=r"^data\.path: \w+://nosuch-zz cannot be read: there is no such bucket"
    ) as caught:
        opened(source, f"{server.kind}://nosuch-zz/secret-name", IMAGE if source == "folder" else TEXT).pieces()
    assert "secret-name" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_empty_and_an_object_that_goes(server: Server) -> None:
    with pytest.raises(DataError, match=r"data\.path: no Parquet files at"):
        opened("parquet", f"{server.kind}://runs/nothing-here").pieces()
    url = _put(server, f"data-{next(_NEXT)}", {"x.jsonl": _jsonl(30)})
    source = opened("jsonl", url)
    (piece,) = source.pieces()
    kind = reading._store_of(server.kind)
    assert kind is not None
    client_of(kind, "runs").delete([piece.file.split("runs/")[1]])
    with pytest.raises(DataError, match=r"data\.path: a file that was listed is gone"):
        list(source.read(piece))


def test_an_object_that_is_cut_short_while_it_is_read(server: Server) -> None:
    below = f"data-{next(_NEXT)}"
    url = _put(server, below, {"x.bin": b"x" * 1_000_000})
    with files.open_file(f"{url}/x.bin") as handle:
        handle.read(10)
        _put(server, below, {"x.bin": b"x"})
        with pytest.raises(reading.UnreadableError, match="not what it was"):
            handle.read()


def test_who_may_not_read_is_told_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if server.kind == "gs":
        pytest.skip("fake-gcs-server asks nobody who they are")
    url = _put(server, f"data-{next(_NEXT)}", {"x.jsonl": _jsonl(3)})
    name = {"s3": "AWS_SECRET_ACCESS_KEY", "az": "AZURE_STORAGE_ACCOUNT_KEY"}[server.kind]
    monkeypatch.setenv(name, "d3Jvbmc=")
    with pytest.raises(InputError, match=r"^data\.path: \w+://runs cannot be read: access is denied; whom"):
        opened("jsonl", url).pieces()


@pytest.mark.parametrize("scheme", ["gs", "s3", "az"])
def test_a_service_that_does_not_answer(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.5)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9/x")
    for name, text in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x"}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "x")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "eA==")
    with pytest.raises(InputError, match=r"^data\.path: \w+://runs cannot be read: the service does not answer"):
        opened("jsonl", f"{scheme}://runs/x.jsonl").pieces()


def test_urls_that_name_no_bucket() -> None:
    with pytest.raises(InputError, match="data.path"):  # noqa: RUF043
        opened("jsonl", "gs://").pieces()
    with pytest.raises(RecipeError, match="no file system for nofs://"):
        opened("jsonl", "nofs://x/y").pieces()
    with pytest.raises(UnreachableError, match=r"^data\.path: "), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "x")
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "no key")
        opened("jsonl", "az://runs/y").pieces()


def test_tables_in_a_bucket(servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Written there by their own libraries; log and metadata are read with the variables of the stores."""
    deltalake, catalogs = pytest.importorskip("deltalake"), pytest.importorskip("pyiceberg.catalog.sql")
    server: Server = servers("s3")
    for name, text in server.environment.items():
        monkeypatch.setenv(name, text)
    rows = pa.table({"text": ["a", "b"], "year": [2025, 2026]})
    url = f"s3://runs/tables-{next(_NEXT)}"
    options = {"allow_http": "true", "aws_conditional_put": "etag"}
    deltalake.write_deltalake(f"{url}/delta", rows, partition_by=["year"], storage_options=options)
    catalog = catalogs.SqlCatalog(
        "x",
        uri=f"sqlite:///{tmp_path}/catalog.db",
        warehouse=f"{url}/iceberg",
        **{
            "s3.endpoint": server.environment["AWS_ENDPOINT_URL"],
            "s3.access-key-id": server.environment["AWS_ACCESS_KEY_ID"],
            "s3.secret-access-key": server.environment["AWS_SECRET_ACCESS_KEY"],
            "s3.region": server.environment["AWS_REGION"],
        },
    )
    catalog.create_namespace("space")
    table = catalog.create_table("space.t", rows.schema)
    table.append(rows)
    for source, path, chosen in (
        ("delta", f"{url}/delta", {"version": 0}),
        ("iceberg", table.metadata_location, {"snapshot": table.current_snapshot().snapshot_id}),
    ):
        found = open_source(
            source=source,
            path=path,
            content=TEXT,
            columns={"label": "year"},
            labelled=True,
            client=False,
            options=find_source(source).Options.model_validate(chosen),
        )
        batches = [batch for piece in found.pieces() for batch in found.read(piece)]
        texts = [text for batch in batches for text in batch.payload["text"].to_pylist()]
        labels = [label for batch in batches for label in batch.labels]
        assert dict(zip(texts, labels, strict=True)) == {"a": "2025", "b": "2026"}
