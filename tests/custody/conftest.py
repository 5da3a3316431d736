"""Services that keep secrets, one of a kind for each test, told to the real libraries by the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.custody.servers import Aws, Azure, Google, Running, Service, running

KINDS = ("google-secret-manager", "aws-secrets-manager", "azure-key-vault", "driver-file")
_LOADER = botocore.loaders.create_loader()  # reads a megabyte of JSON for each session; here once
_SERVERS = {"google-secret-manager": Google, "aws-secrets-manager": Aws, "azure-key-vault": Azure}
SERVICES = tuple(_SERVERS)


@dataclass
class Place:
    """One custody that can be used.

    Attributes:
      kind: as it is registered.
      options: the keys of `privacy.secret` besides `custody`.
      service: the state of its service; None: a disk.
      folder: of the disk.
    """

    kind: str
    options: dict[str, Any]
    service: Service | None
    folder: Path

    @property
    def recipe(self) -> dict[str, Any]:
        """`privacy.secret`."""
        return {"custody": self.kind, **self.options}

    def values(self) -> list[bytes]:
        """All values that are kept there."""
        if self.service is not None:
            return self.service.values()
        return [path.read_bytes() for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate of 127.0.0.1 with its key, and the key file of a Google service account."""
    folder = tmp_path_factory.mktemp("identities")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a vault of tests")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    signed = made.add_extension(here, critical=False).sign(key, hashes.SHA256())
    pem = signed.public_bytes(serialization.Encoding.PEM)
    (folder / "vault.pem").write_bytes(pem + _pem(key))
    account = {
        "type": "service_account",
        "project_id": "secret-project",
        "private_key_id": "1",
        "private_key": _pem(rsa.generate_private_key(65537, 2048)).decode(),
        "client_email": "tester@secret-project.iam.invalid",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/never-asked",
    }
    (folder / "account.json").write_text(json.dumps(account))
    return {"certificate": folder / "vault.pem", "account": folder / "account.json"}


def _pem(key: Any) -> bytes:
    kind = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))


@pytest.fixture
def place(
    request: pytest.FixtureRequest, identities: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Each custody in turn, or those that a test names."""
    kind = request.param
    folder = tmp_path / "secrets"
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "IDENTITY_"))]:
        monkeypatch.delenv(name)
    if kind == "driver-file":
        yield Place(kind, {"path": str(folder)}, None, folder)
        return
    secure = identities["certificate"] if kind == "azure-key-vault" else None
    with running(_SERVERS[kind], secure) as server:
        options = {
            "google-secret-manager": {"project": "secret-project", "endpoint": server.url},
            "aws-secrets-manager": {"region": "eu-central-1", "endpoint": server.url},
            "azure-key-vault": {"vault": server.url},
        }[kind]
        for name, text in _environment(kind, identities, server).items():
            monkeypatch.setenv(name, text)
        if kind == "aws-secrets-manager":
            monkeypatch.setattr(botocore.session, "create_loader", lambda *_: _LOADER)
        yield Place(kind, options, server.service, folder)


def _environment(kind: str, identities: dict[str, Path], server: Running) -> dict[str, str]:
    return {
        "google-secret-manager": {"GOOGLE_APPLICATION_CREDENTIALS": str(identities["account"])},
        "aws-secrets-manager": {
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "tester-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        "azure-key-vault": {
            "IDENTITY_ENDPOINT": f"{server.url}/token",
            "IDENTITY_HEADER": "tester",
            "REQUESTS_CA_BUNDLE": str(identities["certificate"]),
        },
    }[kind]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of `place` runs with each custody, unless it names some."""
    if "place" in metafunc.fixturenames:
        own = metafunc.definition.get_closest_marker("parametrize")
        if own is None or "place" not in str(own.args[0]):
            metafunc.parametrize("place", KINDS, indirect=True)
