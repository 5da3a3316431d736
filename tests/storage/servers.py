"""Servers that speak as object stores do, for tests: fake-gcs-server, MinIO, Azurite.

Looked for where a variable says, on PATH, in ~/go/bin, and in a cache that `python -m tests.storage.servers` fills, as
`make test` does. No registry has them as programs: they are compiled once, by 4, 8 and half a minute of a core's time.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

CACHE = Path("~/.cache/pe_beam/servers").expanduser()
GO = {
    "fake-gcs-server": "github.com/fsouza/fake-gcs-server@v1.56.0",
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
}
NPM = {"azurite-blob": "azurite@3.35.0"}
VARIABLES = {
    "fake-gcs-server": "PE_BEAM_FAKE_GCS_SERVER",
    "minio": "PE_BEAM_MINIO",
    "azurite-blob": "PE_BEAM_AZURITE_BLOB",
}
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # all emulators' own


@dataclass(frozen=True)
class Server:
    """One that runs.

    Attributes:
      kind: gs, s3 or az.
      port: on 127.0.0.1.
      environment: what a library has to be told to use it.
    """

    kind: str
    port: int
    environment: dict[str, str] = field(default_factory=dict)

    def behind(self, port: int) -> dict[str, str]:
        """The same through another port."""
        return {name: text.replace(f":{self.port}", f":{port}") for name, text in self.environment.items()}


def found(name: str) -> str | None:
    """The program of a server, or None."""
    given = os.environ.get(VARIABLES[name])
    places = [Path.home() / "go/bin" / name, CACHE / name, CACHE / "node_modules/.bin" / name]
    if given:
        return given if Path(given).is_file() else None
    return shutil.which(name) or next((str(place) for place in places if os.access(place, os.X_OK)), None)


def program_of(kind: str) -> str:
    """The name of the program that speaks as gs, s3 or az does."""
    return {"gs": "fake-gcs-server", "s3": "minio", "az": "azurite-blob"}[kind]


def build(minutes: float) -> None:
    """Fills the cache with what is missing, each part in so many minutes; says aloud what cannot be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, module in GO.items():
        _made(name, ["go", "install", "-ldflags=-s -w", module], minutes)
    for name, package in NPM.items():
        _made(name, ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", ".", package], minutes)


def _made(name: str, command: list[str], minutes: float) -> None:
    """Makes one program in a folder of its own, and moves it where it is looked for once it is whole."""
    if found(name) is not None:
        return
    if minutes <= 0 or shutil.which(command[0]) is None:
        why = "no time is given" if minutes <= 0 else f"there is no {command[0]}"
        sys.stderr.write(f"{name}: left out, for {why}; its tests are skipped\n")
        return
    sys.stderr.write(f"{name}: is built, once\n")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        environment = {**os.environ, "GOBIN": folder}
        try:
            status = subprocess.run(
                command, cwd=folder, env=environment, check=False, timeout=60 * minutes, stdin=subprocess.DEVNULL
            ).returncode
        except subprocess.TimeoutExpired:
            status = 124
        for made in [Path(folder, name), Path(folder, "node_modules")] if status == 0 else []:
            if made.exists():
                shutil.rmtree(CACHE / made.name, ignore_errors=True)
                made.replace(CACHE / made.name)
    took = f"{time.monotonic() - began:.0f} s"
    sys.stderr.write(f"{name}: {'ready' if found(name) else f'left out (status {status})'} after {took}\n")


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Iterator[Server]:
    """A server on a free port that keeps all below a folder, stopped at the end. FileNotFoundError: no such program."""
    port = free_port()
    name, arguments, environment = {"gs": _gs, "s3": _s3, "az": _az}[kind](port, folder)
    program = found(name)
    if program is None:
        raise FileNotFoundError(name)
    own = {"MINIO_ROOT_USER": "tester", "MINIO_ROOT_PASSWORD": "tester-secret", "MINIO_BROWSER": "off"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log, cwd=folder, env={**os.environ, **own})
        try:
            _wait(process, port, folder / "log.txt")
            yield Server(kind, port, environment)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port that nobody listens on. It is none of those that connections get, one of which could take it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port


def make_bucket(server: Server, name: str) -> None:
    """Makes a bucket, by the plain interface of the service; one that has just been started may be busy yet."""
    for pause in (0.2, 0.5, 1, 2, 5, None):
        try:
            return _make_bucket(server, name)
        except urllib.error.HTTPError as error:
            if error.code != 503 or pause is None:
                raise
        time.sleep(pause)


def _make_bucket(server: Server, name: str) -> None:
    if server.kind == "gs":
        body, kind = f'{{"name": "{name}"}}'.encode(), {"Content-Type": "application/json"}
        ask("POST", f"http://127.0.0.1:{server.port}/storage/v1/b?project=test", body, kind)
    elif server.kind == "s3":
        ask_s3(server, "PUT", f"/{name}")
    else:
        ask_az(server, "PUT", f"/{ACCOUNT}/{name}", {"restype": "container"})


def ask(method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """One request; raises HTTPError for a refusal."""
    request = urllib.request.Request(url, data=body or None, method=method, headers=headers or {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        data: bytes = answer.read()
    return data


def ask_s3(server: Server, method: str, path: str, query: str = "", body: bytes = b"", service: str = "s3") -> bytes:
    """One request signed as S3 wants it (AWS Signature Version 4)."""
    host, moment = f"127.0.0.1:{server.port}", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest, scope = hashlib.sha256(body).hexdigest(), f"{moment[:8]}/us-east-1/{service}/aws4_request"
    signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": moment}
    lines = "".join(f"{key}:{text}\n" for key, text in signed.items())
    asked = "\n".join([method, path, query, lines, ";".join(signed), digest])
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    key = b"AWS4tester-secret"
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    proof = hmac.digest(key, text.encode(), "sha256").hex()
    proof = f"AWS4-HMAC-SHA256 Credential=tester/{scope},SignedHeaders={';'.join(signed)},Signature={proof}"
    del signed["host"]
    url = f"http://{host}{path}" + (f"?{query}" if query else "")
    return ask(method, url, body, {**signed, "Authorization": proof})


def ask_az(server: Server, method: str, path: str, query: dict[str, str], body: bytes = b"") -> bytes:
    """One request signed as Azure wants it (Shared Key)."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    length = str(len(body)) if body else ""
    asked = "\n".join([method, "", "", length, "", "application/xml" if body else "", *[""] * 6])
    asked += "".join(f"{key}:{text}\n" for key, text in sorted(headers.items())).replace("x-ms-date", "\nx-ms-date", 1)
    asked += f"/{ACCOUNT}{path}" + "".join(f"\n{key}:{text}" for key, text in sorted(query.items()))
    proof = b64encode(hmac.digest(b64decode(KEY), asked.encode(), "sha256")).decode()
    if body:
        headers["Content-Type"] = "application/xml"
    elif method == "PUT":
        headers["Content-Length"] = "0"
    url = f"http://127.0.0.1:{server.port}{path}?" + "&".join(f"{key}={text}" for key, text in query.items())
    return ask(method, url, body, {**headers, "Authorization": f"SharedKey {ACCOUNT}:{proof}"})


def _gs(port: int, _: Path) -> tuple[str, list[str], dict[str, str]]:
    arguments = [
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-backend",
        "memory",
        "-log-level",
        "error",
    ]
    arguments += ["-public-host", f"127.0.0.1:{port}", "-external-url", f"http://127.0.0.1:{port}"]
    return "fake-gcs-server", arguments, {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


def _s3(port: int, folder: Path) -> tuple[str, list[str], dict[str, str]]:
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester-secret",
        "AWS_REGION": "us-east-1",
    }
    return "minio", ["server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")], environment


def _az(port: int, _: Path) -> tuple[str, list[str], dict[str, str]]:
    environment = {
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
    }
    arguments = ["--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    return "azurite-blob", ["--blobHost", "127.0.0.1", "--blobPort", str(port), *arguments], environment


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server does not answer: {log.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    build(float(os.environ.get("PE_BEAM_SERVER_MINUTES", "8")))
