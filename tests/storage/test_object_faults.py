"""What goes wrong with a bucket is said in one sentence that names --run-dir, and soon; nothing private is in it."""

from __future__ import annotations

import itertools
import json
import pickle
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pe_beam.cli.main import main
from pe_beam.contracts.store import Store
from pe_beam.errors import LockedError, MissingExtraError, StorageError, UnreachableError
from pe_beam.storage import asking, bucket, objects, open_store
from tests.storage.servers import Server, free_port

KEYS = {"s3": "AWS_SECRET_ACCESS_KEY", "az": "AZURE_STORAGE_ACCOUNT_KEY"}
SECRET_NAME = "private/counts/0123456789abcdef"
_NEXT = itertools.count(30_000)


def _refused(store: Store, message: str) -> None:
    calls = [
        lambda: store.read(SECRET_NAME),
        lambda: store.exists(SECRET_NAME),
        lambda: store.list_files("private/counts/0123456789abcdef"),
        lambda: store.commit(SECRET_NAME, b"x"),
        lambda: store.lease(SECRET_NAME).__enter__(),
    ]
    for call in calls:
        with pytest.raises(UnreachableError, match=message) as caught:
            call()
        said = str(caught.value)
        assert said.startswith(f"--run-dir {store.uri}: ")
        assert "0123456789abcdef" not in said
        assert "\n" not in said
        assert caught.value.exit_status == 2
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_a_bucket_that_is_missing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"{server.kind}://no-such-bucket/run"
    _refused(open_store(uri), "there is no such bucket; make it, or correct its name")
    assert main(["run", "digits", "--run-dir", uri]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].count("there is no such bucket") == 1


def test_a_key_that_is_wrong(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if server.kind == "gs":
        pytest.skip(
            "the emulator takes any credentials: test_google_credentials_that_are_missing looks at the messages"
        )
    monkeypatch.setenv(KEYS[server.kind], "d3Jvbmc=")
    store = open_store(f"{server.kind}://runs/{next(_NEXT)}")
    _refused(store, "access is denied")
    with pytest.raises(UnreachableError) as caught:
        store.read("a")
    assert "d3Jvbmc=" not in str(caught.value)
    assert b"d3Jvbmc" not in pickle.dumps(store)


def test_google_credentials_that_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("google.cloud.storage")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    _refused(open_store("gs://bucket/run"), "there are no valid credentials")


def test_nobody_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.3)
    for name, text in server.behind(free_port()).items():
        monkeypatch.setenv(name, text)
    began = time.monotonic()
    _refused(open_store(f"{server.kind}://runs/run"), "the service does not answer; check the network")
    assert time.monotonic() - began < 45
    monkeypatch.undo()
    assert bucket.CONNECT + bucket.ANSWER + asking.PATIENCE < 35


@pytest.mark.parametrize("scheme", ["gs", "s3", "az"])
@pytest.mark.parametrize("rest", ["", "/x", "key:word@bucket/run", "bucket/run?token=word", "bucket:80/x", "b/../x"])
def test_a_url_that_is_no_bucket_and_prefix(scheme: str, rest: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_store(f"{scheme}://{rest}")
    assert "word" not in str(caught.value)


def test_one_place_is_one_store(server: Server) -> None:
    assert open_store(f"{server.kind}://runs/a/") == open_store(f"{server.kind}://runs/a")
    assert open_store(f"{server.kind}://runs/a").at("release/x") == f"{server.kind}://runs/a/release/x"


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [("gs", "google.cloud", "gcp"), ("s3", "obstore", "s3"), ("az", "obstore", "azure")],
)
def test_a_package_that_is_missing(scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    objects._client.cache_clear()
    with pytest.raises(MissingExtraError, match=rf"--run-dir: {scheme}:// needs .*install pe_beam\[{extra}\]"):
        open_store(f"{scheme}://bucket/run").exists("a")


def test_a_holder_that_was_stopped_knows_that_its_lease_is_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It renews no more, as one that is stopped; another sees it unchanged for as long as it holds, and takes it."""
    monkeypatch.setenv("PE_BEAM_LEASE_SECONDS", "1")
    monkeypatch.setattr("pe_beam.storage.leases.Lease._keep", lambda _: None)
    with pytest.raises(LockedError, match="another may be at work"), store.lease("name"):
        fence = _fence(store)
        began = time.monotonic()
        with open_store(store.uri).lease("name", patience=0):
            assert time.monotonic() - began >= 1
            assert _fence(store) == fence + 1
            assert store.is_leased("name")
    assert not store.is_leased("name")


def test_a_holder_that_woke_before_anyone_came_still_has_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PE_BEAM_LEASE_SECONDS", "1")
    monkeypatch.setattr("pe_beam.storage.leases.Lease._keep", lambda _: None)
    with store.lock():
        time.sleep(1.2)
        store.demand_lock()


@pytest.mark.parametrize("off", [-300.0, 300.0])
def test_clocks_that_are_five_minutes_off_take_no_lease_away(
    store: Store, off: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with store.lease("name"):
        monkeypatch.setattr(time, "time", lambda: real() + off)
        for _ in range(2):
            with pytest.raises(LockedError, match="another process holds it"), store.lease("name", patience=0.1):
                pass
    monkeypatch.setattr(time, "time", real)
    with store.lease("name", patience=0):
        pass


def _fence(store: Store) -> int:
    return int(json.loads(store._cell("name").read().body)["fence"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (301, "PermanentRedirect", "another region; set AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "another region; set AWS_REGION"),
        (403, "AccessDenied", "access is denied"),
        (400, "ExpiredToken", "the credentials have expired"),
        (418, "Teapot", "answered with status 418"),
    ],
)
def test_answers_of_amazon(status: int, code: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_PUT = do_GET

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, text in (("ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}"), ("REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", text)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        for call in (lambda s: s.read("private/x/0123"), lambda s: s.commit("private/x/0123", b"")):
            with pytest.raises(StorageError, match=said) as caught:
                call(open_store("s3://bucket/run"))
            assert "0123" not in str(caught.value)
        server.shutdown()


def test_an_ended_session_is_thought_of_where_the_answer_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon answers HEAD without a body, so by status 400 alone."""
    from obstore.exceptions import GenericError

    monkeypatch.setenv("AWS_REGION", "us-east-1")
    amazon = open_store("s3://bucket/run")._asking.bucket  # type: ignore[attr-defined]
    error = GenericError("Generic S3 error: Server returned non-2xx status code: 400 Bad Request: ")
    assert amazon.trouble(error).said.endswith("and AWS_ENDPOINT_URL if it is set")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "x")
    assert amazon.trouble(error).said.endswith(", and that AWS_SESSION_TOKEN has not expired")


@pytest.mark.parametrize(
    ("status", "said", "passing"),
    [(401, "denied", False), (403, "denied", False), (404, "no such", False), (429, "429", True), (503, "503", True)],
)
def test_answers_of_google(status: int, said: str, passing: bool) -> None:
    exceptions = pytest.importorskip("google.api_core.exceptions")
    google = open_store("gs://bucket/run")._asking.bucket  # type: ignore[attr-defined]
    found = google.trouble(exceptions.from_http_status(status, "private/x/0123"))
    assert said in found.said
    assert found.passing == passing
    assert "0123" not in found.said
    assert google.trouble(KeyError("ours")) is None
    pays = exceptions.BadRequest("Bucket is a requester pays bucket but no user project provided.")
    assert google.trouble(pays).said == "its requesters pay; name the project that does, GOOGLE_CLOUD_QUOTA_PROJECT"
