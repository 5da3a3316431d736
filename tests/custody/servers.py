"""Services that keep secrets, for tests: they speak the real protocols on real sockets, and can be made to fail.

Each keeps its secrets in memory. `Faults` says what goes wrong; what was asked is counted by operation.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit


@dataclass
class Kept:
    """One secret: its versions by id, newest last, and what is said of it."""

    about: dict[str, Any]
    versions: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Service:
    """The state of a service.

    Attributes:
      secrets: name -> secret.
      deleted: name -> what is deleted and not gone yet.
      asked: operation -> how often.
      denied: operations that are refused.
      failing: operation -> how many times it fails with 500 first.
      lost: operation -> how many times it is done, and no answer sent.
      slow: seconds before each answer.
      settings: what the vault or project is like.
      before: called with each operation, before it is done.
    """

    secrets: dict[str, Kept] = field(default_factory=dict)
    deleted: dict[str, Kept] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    denied: set[str] = field(default_factory=set)
    failing: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    slow: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    before: Callable[[str], None] = lambda _operation: None
    bodies: list[bytes] = field(default_factory=list)

    def values(self) -> list[bytes]:
        """All values that are kept, of deleted secrets too."""
        every = [*self.secrets.values(), *self.deleted.values()]
        return [value for kept in every for value in kept.versions.values()]


class Refused(Exception):  # noqa: N818
    """An answer that is no success: its status, and its body as the service writes it."""

    def __init__(self, status: int, code: str, message: str = "refused") -> None:
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """Answers one request; the services fill in the rest."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for a delayed answer
    service: ClassVar[Service]
    mutex: ClassVar[threading.Lock]

    def answer(self) -> None:
        """Reads a request, does it as one step, and answers."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.service.bodies.append(body)
        operation = self.operation(body)
        self.service.before(operation)
        if self.service.slow:
            time.sleep(self.service.slow)
        status, headers = 200, {}
        try:
            with self.mutex:
                self.service.asked[operation] += 1
                self.authorize()
                if operation in self.service.denied:
                    raise self.denial()
                if self.service.failing[operation] > 0:
                    self.service.failing[operation] -= 1
                    raise Refused(503, "UNAVAILABLE")
                found = self.do(operation, json.loads(body) if body else {})
        except Refused as error:
            status, found, headers = error.status, self.fault(error), self.fault_headers(error)
        if status == 200 and self.service.lost[operation] > 0:
            self.service.lost[operation] -= 1
            self.close_connection = True
            return
        data = b"" if found is None else json.dumps(found).encode()
        self.send_response(204 if found is None else status)
        self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: RUF100
    content_type = "application/json"

    def operation(self, body: bytes) -> str:
        raise NotImplementedError

    def authorize(self) -> None:
        raise NotImplementedError

    def do(self, operation: str, body: dict[str, Any]) -> dict[str, Any] | None:
        raise NotImplementedError

    def denial(self) -> Refused:
        raise NotImplementedError

    def fault(self, error: Refused) -> dict[str, Any]:
        raise NotImplementedError

    def fault_headers(self, error: Refused) -> dict[str, str]:
        return {}

    def log_message(self, *_: object) -> None:
        pass


class Google(Handler):
    """Secret Manager's REST interface, version 1."""

    _PATH = re.compile(
        r"/v1/(?P<parent>projects/[^/]+(?:/locations/[^/]+)?)/secrets(?:/(?P<name>[^/:]+))?"
        r"(?:/versions/(?P<version>[^/:]+))?(?::(?P<verb>\w+))?$"
    )

    def operation(self, body: bytes) -> str:
        found = self._PATH.match(urlsplit(self.path).path)
        assert found, self.path
        self._at = found.groupdict()
        if self.command == "POST":
            return self._at["verb"] or "create"
        if self.command == "DELETE":
            return "delete"
        return self._at["verb"] or "get"

    def authorize(self) -> None:
        if not (self.headers.get("Authorization") or "").startswith("Bearer "):
            raise Refused(401, "UNAUTHENTICATED")
        if self._at["parent"] != self.service.settings.get("parent", "projects/secret-project"):
            raise Refused(404, "NOT_FOUND")

    def denial(self) -> Refused:
        return Refused(403, "PERMISSION_DENIED")

    def fault(self, error: Refused) -> dict[str, Any]:
        return {"error": {"code": error.status, "message": error.message, "status": error.code}}

    def do(self, operation: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if operation == "create":
            return self._create(body)
        name = self._at["name"]
        kept = self.service.secrets.get(name)
        if kept is None:
            raise Refused(404, "NOT_FOUND")
        if operation == "get":
            return self._about(name)
        if operation == "delete":
            etag = parse_qs(urlsplit(self.path).query).get("etag", [None])[0]
            if etag not in (None, kept.about["etag"]):
                raise Refused(400, "FAILED_PRECONDITION")
            if not self.service.settings.get("stays"):
                del self.service.secrets[name]
            return {}
        if operation == "addVersion":
            data = base64.b64decode(body["payload"]["data"])
            import google_crc32c

            assert int(body["payload"]["dataCrc32c"]) == google_crc32c.value(data)
            kept.about["count"] = kept.about.get("count", 0) + 1
            version = str(kept.about["count"])
            kept.versions[version] = data
            return {"name": f"{self._at['parent']}/secrets/{name}/versions/{version}", "state": "ENABLED"}
        assert operation == "access"
        version = self._at["version"]
        if version not in kept.versions:
            raise Refused(404, "NOT_FOUND")
        if version in self.service.settings.get("destroyed", ()):
            raise Refused(400, "FAILED_PRECONDITION", "is in DESTROYED state")
        data = kept.versions[version]
        return {"name": version, "payload": {"data": base64.b64encode(data).decode()}}

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        name = parse_qs(urlsplit(self.path).query)["secretId"][0]
        if name in self.service.secrets:
            raise Refused(409, "ALREADY_EXISTS")
        ttl = self.service.settings.get("version_destroy_ttl")
        about = {"labels": body.get("labels", {}), "etag": f'"{uuid.uuid4().hex}"'}
        if ttl:
            about["versionDestroyTtl"] = ttl
        self.service.secrets[name] = Kept(about)
        return self._about(name)

    def _about(self, name: str) -> dict[str, Any]:
        about = {key: value for key, value in self.service.secrets[name].about.items() if key != "count"}
        return {"name": f"{self._at['parent']}/secrets/{name}", **about}


class Aws(Handler):
    """Secrets Manager's JSON protocol, version 1.1."""

    content_type = "application/x-amz-json-1.1"
    _SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=tester/\d{8}/([^/]+)/secretsmanager/aws4_request, SignedHeaders=")

    def operation(self, body: bytes) -> str:
        return (self.headers["X-Amz-Target"] or "").partition(".")[2]

    def authorize(self) -> None:
        found = self._SCOPE.match(self.headers.get("Authorization") or "")
        if not found:
            raise Refused(400, "UnrecognizedClientException")
        self._region = found.group(1)
        if self._region != self.service.settings.get("region", "eu-central-1"):
            raise Refused(400, "InvalidSignatureException", "Credential should be scoped to a valid region.")

    def denial(self) -> Refused:
        return Refused(400, "AccessDeniedException")

    def fault(self, error: Refused) -> dict[str, Any]:
        return {"__type": error.code, "message": error.message}

    def do(self, operation: str, body: dict[str, Any]) -> dict[str, Any] | None:
        name = str(body.get("SecretId") or body.get("Name")).rpartition(":secret:")[2]
        name = name[:-7] if str(body.get("SecretId", "")).startswith("arn:") else name
        arn = f"arn:aws:secretsmanager:{self._region}:123456789012:secret:{name}-AbCdEf"
        forced = body.get("ForceDeleteWithoutRecovery", False)
        if name in self.service.deleted and operation != "DescribeSecret" and not forced:
            raise Refused(400, "InvalidRequestException", "a secret with this name is already scheduled for deletion.")
        if operation == "CreateSecret":
            return self._create(name, arn, body)
        kept = self.service.secrets.get(name) or self.service.deleted.get(name)
        if kept is None:
            raise Refused(400, "ResourceNotFoundException")
        if operation == "DescribeSecret":
            return self._describe(name, arn, kept)
        if operation == "GetSecretValue":
            if body["VersionId"] not in kept.versions:
                raise Refused(400, "ResourceNotFoundException")
            data = base64.b64encode(kept.versions[body["VersionId"]]).decode()
            return {"ARN": arn, "Name": name, "VersionId": body["VersionId"], "SecretBinary": data}
        assert operation == "DeleteSecret"
        self.service.secrets.pop(name, None)
        if not forced or self.service.settings.get("stays"):
            self.service.deleted[name] = kept
        elif self.service.settings.get("looks_until_gone", 0):
            self.service.deleted[name] = kept
            kept.about["looks"] = self.service.settings["looks_until_gone"]
        else:
            self.service.deleted.pop(name, None)
        return {"ARN": arn, "Name": name, "DeletionDate": time.time()}

    def _create(self, name: str, arn: str, body: dict[str, Any]) -> dict[str, Any]:
        version, data = body["ClientRequestToken"], base64.b64decode(body["SecretBinary"])
        assert len(version) == 36
        kept = self.service.secrets.get(name)
        if kept is not None and kept.versions.get(version) != data:
            raise Refused(400, "ResourceExistsException")
        extra = dict(self.service.settings.get("about", {}))
        self.service.secrets[name] = Kept({"Tags": body.get("Tags", []), **extra}, {version: data})
        return {"ARN": arn, "Name": name, "VersionId": version}

    def _describe(self, name: str, arn: str, kept: Kept) -> dict[str, Any]:
        about = {key: value for key, value in kept.about.items() if key != "looks"}
        if name in self.service.deleted:
            about["DeletedDate"] = time.time()
            if "looks" in kept.about:
                kept.about["looks"] -= 1
                if kept.about["looks"] < 0:
                    del self.service.deleted[name]
                    raise Refused(400, "ResourceNotFoundException")
        return {"ARN": arn, "Name": name, **about}


class Azure(Handler):
    """Key Vault's REST interface with its challenge, and the local service that gives a machine its token."""

    _PATH = re.compile(r"/(?P<kind>secrets|deletedsecrets|token)(?:/(?P<name>[^/]+))?(?:/(?P<version>[^/]*))?$")

    def operation(self, body: bytes) -> str:
        found = self._PATH.match(urlsplit(self.path).path)
        assert found, self.path
        self._at = found.groupdict()
        if self._at["kind"] == "token":
            return "token"
        if self._at["kind"] == "deletedsecrets":
            return {"GET": "getDeleted", "DELETE": "purge"}[self.command]
        if self.command == "GET":
            return "versions" if self._at["version"] == "versions" else "get"
        return {"PUT": "set", "DELETE": "delete"}[self.command]

    def authorize(self) -> None:
        if self._at["kind"] != "token" and self.headers.get("Authorization") != "Bearer token-of-a-machine":
            raise Refused(401, "Unauthorized")

    def denial(self) -> Refused:
        return Refused(403, "Forbidden")

    def fault(self, error: Refused) -> dict[str, Any]:
        return {"error": {"code": error.code, "message": error.message, "innererror": {"code": error.message}}}

    def fault_headers(self, error: Refused) -> dict[str, str]:
        if error.status != 401:
            return {}
        # The host of the vault has to end with that of the resource.
        resource = self.service.settings.get("resource") or f"https://{self.headers['Host'].partition('.')[2]}"
        return {"WWW-Authenticate": f'Bearer authorization="https://login.invalid/tenant", resource="{resource}"'}

    def do(self, operation: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if operation == "token":
            return self._token()
        if operation == "set":
            return self._set(self._at["name"], body)
        if operation in ("getDeleted", "purge"):
            return self._of_deleted(operation, self._at["name"])
        return self._of_kept(operation, self._at["name"], str(self._at["version"]))

    def _token(self) -> dict[str, Any]:
        if self.service.settings.get("no_token"):
            raise Refused(400, "invalid_request")
        told = {"expires_on": str(int(time.time()) + 3600), "resource": "r", "token_type": "Bearer"}
        return {"access_token": "token-of-a-machine", **told}

    def _set(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name in self.service.deleted:
            raise Refused(409, "Conflict", "ObjectIsDeletedButRecoverable")
        kept = self.service.secrets.setdefault(name, Kept({"tags": {}}))
        version = uuid.uuid4().hex
        kept.versions[version] = bytes.fromhex(body["value"])
        kept.about["tags"][version] = body.get("tags", {})
        return self._bundle(name, kept, version)

    def _of_kept(self, operation: str, name: str, version: str) -> dict[str, Any]:
        found = self.service.secrets.get(name)
        if operation == "versions":
            items = [self._bundle(name, found, each) for each in found.versions] if found else []
            return {"value": [{k: v for k, v in item.items() if k != "value"} for item in items], "nextLink": None}
        if found is None or (operation == "get" and version not in found.versions):
            raise Refused(404, "SecretNotFound")
        if operation == "get":
            return self._bundle(name, found, version)
        self.service.deleted[name] = self.service.secrets.pop(name)
        found.about["looks"] = self.service.settings.get("looks_until_deleted", 0)
        recovery = {"recoveryId": f"https://x/deletedsecrets/{name}", "deletedDate": 1, "scheduledPurgeDate": 2}
        return self._bundle(name, found, next(iter(found.versions))) | recovery

    def _of_deleted(self, operation: str, name: str) -> dict[str, Any] | None:
        """A deletion and a purge take a while: they are done after so many looks."""
        kept = self.service.deleted.get(name)
        if kept is not None and kept.about["looks"] > 0:  # its deletion is not done yet
            kept.about["looks"] -= 1
            kept = None
            if operation == "purge":
                raise Refused(409, "Conflict")
        if kept is None:
            raise Refused(404, "SecretNotFound")
        if operation == "purge":
            if "purging" not in kept.about:
                kept.about["purging"] = self.service.settings.get("looks_until_purged", 0)
            if kept.about["purging"] <= 0 and not self.service.settings.get("stays"):
                del self.service.deleted[name]
            return None
        if "purging" in kept.about:
            kept.about["purging"] -= 1
            if kept.about["purging"] < 0 and not self.service.settings.get("stays"):
                del self.service.deleted[name]
                raise Refused(404, "SecretNotFound")
        return self._bundle(name, kept, next(iter(kept.versions))) | {"recoveryId": f"https://x/deletedsecrets/{name}"}

    def _bundle(self, name: str, kept: Kept, version: str) -> dict[str, Any]:
        level = self.service.settings.get("recovery_level", "Recoverable+Purgeable")
        return {
            "value": kept.versions[version].hex(),
            "id": f"https://{self.headers['Host']}/secrets/{name}/{version}",
            "attributes": {"enabled": True, "created": 1, "updated": 1, "recoveryLevel": level},
            "tags": kept.about["tags"][version],
        }


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that does not wait is no fault of the server."""


@dataclass
class Running:
    """A service that runs: its state, and its address."""

    service: Service
    url: str


@contextlib.contextmanager
def running(kind: type[Handler], certificate: Path | None = None) -> Iterator[Running]:
    """A service on a free port, over TLS where a certificate with its key is given."""
    service = Service()
    handler = type(kind.__name__, (kind,), {"service": service, "mutex": threading.Lock()})
    server = _Quiet(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    scheme = "http" if certificate is None else "https"
    try:
        yield Running(service, f"{scheme}://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
