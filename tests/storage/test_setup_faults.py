"""A store that cannot be used as it is named: every command ends with status 2 and one sentence, within 30 seconds."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pe_beam.cli.main import main
from pe_beam.errors import UnreachableError
from pe_beam.storage import asking, open_store
from tests.storage.conftest import NAMES
from tests.storage.servers import Server, ask_s3, make_bucket, running

_NEXT = itertools.count(70_000)
_ENDPOINT = {"gs": "STORAGE_EMULATOR_HOST", "s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT"}


def _refused(capsys: pytest.CaptureFixture[str], uri: str, message: str, *more: str) -> None:
    """Asks by each command that opens a run directory."""
    for command in (["run", "digits", "--run-dir", uri], ["status", uri], ["purge", uri]):
        began = time.monotonic()
        assert main([*command, *more]) == 2, command
        assert time.monotonic() - began < 60  # 30, where others do not keep the machine busy
        said = capsys.readouterr().err.strip().splitlines()
        assert len([line for line in said if "failed" in line]) == 1, said
        assert re.search(rf"--run-dir {re.escape(uri)}: .* failed: {message}", said[-1]), said


@pytest.fixture
def minio(servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """MinIO, told to the library by the environment."""
    server = servers("s3")
    for name, text in server.environment.items():
        monkeypatch.setenv(name, text)
    return server


def _limited(minio: Server, monkeypatch: pytest.MonkeyPatch, *actions: str) -> None:
    """Credentials that are allowed some actions, by the service's own AssumeRole."""
    statement = {"Effect": "Allow", "Action": [f"s3:{each}" for each in actions], "Resource": ["arn:aws:s3:::*"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    body = urlencode({"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": 900, "Policy": policy})
    answer = ask_s3(minio, "POST", "/", body=body.encode(), service="sts").decode()
    for name, tag in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey")):
        monkeypatch.setenv(f"AWS_{name}", _inside(answer, tag))
    monkeypatch.setenv("AWS_SESSION_TOKEN", _inside(answer, "SessionToken"))


def _inside(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>([^<]+)</{tag}>", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("allowed", [("GetBucketLocation",), ("GetObject", "ListBucket"), ("GetObject", "PutObject")])
def test_a_user_whose_policy_does_not_allow_it(
    minio: Server, allowed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One may do nothing with objects, one not write, one not list."""
    uri = f"s3://runs/{next(_NEXT)}"
    _limited(minio, monkeypatch, *allowed)
    assert main(["run", "digits", "--run-dir", uri]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(rf"--run-dir {uri}: .* failed: access is denied; .*s3:GetObject, PutObject, DeleteObject", said)
    assert "AWS_SESSION" not in said


def test_a_user_who_may_do_all_that_the_docs_ask_for(minio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    _limited(minio, monkeypatch, "GetObject", "PutObject", "DeleteObject", "ListBucket")
    store = open_store(f"s3://runs/{next(_NEXT)}")
    assert store.keeps_deleted() is None
    with store.lock():
        assert store.commit("a", b"x")
        assert store.list_files() == ["a"]
    store.delete_all("")


@pytest.fixture(scope="module")
def in_another_region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MinIO that says it lies in eu-west-1."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINIO_REGION", "eu-west-1")
            with running("s3", tmp_path_factory.mktemp("region")) as server:
                yield server
    except FileNotFoundError as error:
        pytest.skip(f"{NAMES['s3']} was NOT tested: there is no {error}; python -m tests.storage.servers")


def test_a_bucket_of_another_region(
    in_another_region: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in in_another_region.environment.items():
        monkeypatch.setenv(name, text)
    # The answer to some requests has no body, and so no reason: it is 400 alone.
    region = r"(the bucket lies in another region; set AWS_REGION|the service does not understand it .* AWS_REGION)"
    _refused(capsys, f"s3://runs/{next(_NEXT)}", region)


@pytest.mark.parametrize("kind", ["gs", "s3", "az"])
def test_an_endpoint_whose_name_is_unknown(
    kind: str,
    servers: Callable[[str], Server],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = servers(kind)
    for name, text in server.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv(_ENDPOINT[kind], "http://no-such-host.invalid:9000")
    assert asking.PATIENCE < 20
    monkeypatch.setattr(asking, "PATIENCE", 1.0)  # what is waited beyond it is looked at here
    began = time.monotonic()
    _refused(capsys, f"{kind}://runs/{next(_NEXT)}", "the service does not answer; check the network")
    assert time.monotonic() - began < 3 * 30


@pytest.mark.parametrize("kind", ["s3", "az"])
@pytest.mark.parametrize("given", ["127.0.0.1:9000", "minio", "http://"])
def test_an_endpoint_that_is_no_url(kind: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv(_ENDPOINT[kind], given)
    with pytest.raises(UnreachableError, match=f"{_ENDPOINT[kind]} is no URL; http://HOST:PORT"):
        open_store(f"{kind}://runs/{next(_NEXT)}").exists("a")


@pytest.mark.parametrize("kind", ["gs", "s3", "az"])
def test_an_endpoint_that_is_something_else(
    kind: str,
    servers: Callable[[str], Server],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The server of another service answers there."""
    server, other = servers(kind), servers({"gs": "az", "s3": "gs", "az": "gs"}[kind])
    for name, text in server.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv(_ENDPOINT[kind], f"http://127.0.0.1:{other.port}")
    monkeypatch.setattr(asking, "PATIENCE", 1.0)
    uri = f"{kind}://runs/{next(_NEXT)}"
    assert main(["run", "digits", "--run-dir", uri]) == 2
    assert f"--run-dir {uri}: " in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_bucket_that_is_missing_by_every_command(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    _refused(capsys, f"{server.kind}://no-such-bucket/run", "there is no such bucket; make it, or correct its name")
    assert make_bucket(server, f"made-{next(_NEXT)}") is None


def test_the_library_of_a_store_is_not_loaded_for_a_path(tmp_path: Path) -> None:
    assert open_store(tmp_path).remote is False
    assert open_store("gs://bucket/run").remote is True
