"""Answers a browser on this machine: the page, where the run stands, and drawings of released candidates.

A path is one of a few, never the name of a file. Who asks needs the token of the address, which is made anew for each
start. The name by which the browser calls the server has to be that of the loopback interface: a page of another site
whose name is pointed at 127.0.0.1 (DNS rebinding) is refused. Nothing is kept by the browser, sent to another site or
shown in a frame.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from pe_beam.errors import InputError, PeBeamError
from pe_beam.watch.drawing import Range, family, gallery
from pe_beam.watch.following import refuse_release
from pe_beam.watch.page import POLICY, page
from pe_beam.watch.populations import Populations
from pe_beam.watch.shelf import Shelf
from pe_beam.watch.windows import Watched

LOOPBACK = "127.0.0.1"
_DRAWN = 8 << 20  # bytes of drawings that are kept
_CONNECTIONS = 32
_IDLE = 30.0  # seconds for which a connection may be silent
_LARGEST = 10**15  # of a number in an address
_JSON, _HTML = "application/json", "text/html; charset=utf-8"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = _JSON

    @property
    def tag(self) -> str:
        """Returns the entity tag: equal bytes have an equal one."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:24]}"'


_NOT_FOUND = Answer(HTTPStatus.NOT_FOUND)


@dataclass
class Site:
    """What may be asked for under the token.

    Attributes:
      watched: the directory.
      token: what an address has to begin with.
    """

    watched: Watched
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _drawn: Shelf[bytes] = field(default_factory=lambda: Shelf(_DRAWN, len))

    def answer(self, target: str) -> Answer:
        """Answers the path and the query of a request. A wrong token and a wrong path look alike."""
        try:
            parts = urlsplit(target)
            _, token, *rest = parts.path.split("/")
        except ValueError:
            return _NOT_FOUND
        if not hmac.compare_digest(token.encode(errors="replace"), self.token.encode()) or len(rest) != 1:
            return _NOT_FOUND
        asked = {name: values[-1] for name, values in parse_qs(parts.query, max_num_fields=8).items()}
        makers: dict[str, Callable[[dict[str, str]], Answer]] = {
            "": self._page,
            "state": self._state,
            "gallery": self._gallery,
            "family": self._family,
        }
        maker = makers.get(rest[0])
        return _NOT_FOUND if maker is None else maker(asked)

    def state(self, window: str | None = None) -> dict[str, Any]:
        """Returns what the page shows, as JSON data."""
        return {"every": self.watched.patience * 2, **self.watched.state(window)}

    def _page(self, asked: dict[str, str]) -> Answer:
        return Answer(HTTPStatus.OK, page(self.state(asked.get("window"))), _HTML)

    def _state(self, asked: dict[str, str]) -> Answer:
        return _json(self.state(asked.get("window")))

    def _gallery(self, asked: dict[str, str]) -> Answer:
        code = _whole(asked, "label") if asked.get("label") else None
        wanted = Range(_whole(asked, "population"), code, _whole(asked, "start"), asked.get("order") == "votes")
        return self._draw(asked, wanted, lambda populations: gallery(populations, wanted))

    def _family(self, asked: dict[str, str]) -> Answer:
        t, candidate = _whole(asked, "population"), _whole(asked, "candidate")
        return self._draw(asked, (t, candidate), lambda populations: family(populations, t, candidate))

    def _draw(self, asked: dict[str, str], what: Any, make: Callable[[Populations], str]) -> Answer:
        """Draws, or takes what was drawn before: it is as it was until another population comes."""
        populations = self.watched.populations(asked.get("window"))
        key = (populations.run.root, populations.epoch, populations.count, what)
        return Answer(HTTPStatus.OK, self._drawn.get(key, lambda: make(populations).encode()), _HTML)


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, json.dumps(value, allow_nan=False, separators=(",", ":")).encode())


def _whole(asked: dict[str, str], name: str) -> int:
    text = asked.get(name, "")
    if not text.isascii() or not text.isdecimal() or int(text[:20]) > _LARGEST:
        raise InputError(f"{name}: a number is wanted")
    return int(text)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    protocol_version = "HTTP/1.1"
    server_version = "pe-beam"
    sys_version = ""
    timeout = _IDLE
    # Headers and body leave together: of two small packets the second waits for an acknowledgement, some 40 ms.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._send(self._answer())

    do_HEAD = do_GET  # noqa: N815  (the names are those of http.server)

    def _answer(self) -> Answer:
        if not self._is_ours():
            return Answer(HTTPStatus.FORBIDDEN)
        try:
            return self.server.site.answer(self.path)
        except PeBeamError as error:
            return _json({"trouble": str(error)}, HTTPStatus.CONFLICT)
        except Exception as error:
            # A trace may hold what a file holds: only the type is told.
            said = f"internal error ({type(error).__name__}); please report it"
            return _json({"trouble": said}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _is_ours(self) -> bool:
        """Returns whether the browser calls this server by its own name, and from its own page if it says so."""
        port = self.server.server_port
        names = {f"{LOOPBACK}:{port}", f"localhost:{port}"} | ({LOOPBACK, "localhost"} if port == 80 else set())
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        return len(hosts) == 1 and hosts[0] in names and all(origin == f"http://{hosts[0]}" for origin in origins)

    def _send(self, answer: Answer) -> None:
        known = self.headers.get("If-None-Match") == answer.tag and answer.status == HTTPStatus.OK
        self.send_response(HTTPStatus.NOT_MODIFIED if known else answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("ETag", answer.tag)
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # its body is not read, and must not be taken for the next request
        if self.close_connection:
            self.send_header("Connection", "close")
        if not known:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD" and not known:
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        return self.server_version

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what is no request for a page. Nothing of the request is repeated."""
        self.close_connection = True
        self.send_response(code)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of http.server)
        """Writes nothing: an address has the token in it."""


class _Server(ThreadingHTTPServer):
    """Answers on the loopback interface alone, a limited number of connections at a time."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size: ClassVar[int] = 32  # type: ignore[misc]  # typeshed has an instance's attribute

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._open: set[socket.socket] = set()
        super().__init__((LOOPBACK, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except Exception:  # no thread could be started, which would free it
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._free.release()

    def server_close(self) -> None:
        """Ends connections too: a page that polls would keep its own for ever."""
        super().server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Binds without asking for the machine's name, which may ask a network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Writes nothing: a browser that has gone is no fault, and a trace may hold what a file holds."""


@dataclass(frozen=True)
class Serving:
    """A server at work.

    Attributes:
      url: the address of the page, with its token.
      port: its port.
      site: what it answers.
    """

    url: str
    port: int
    site: Site


@contextlib.contextmanager
def serving(run_dir: str, *, port: int = 0) -> Iterator[Serving]:
    """Serves the page of a run or stream directory, from a thread, while the body runs.

    Args:
      run_dir: path or URL of a store; it need not be there yet.
      port: of 127.0.0.1; 0: any that is free.

    Raises:
      InputError: the port is not free or no port, or the directory is a release by itself.
      PeBeamError: the store cannot be opened.
    """
    watched = Watched(run_dir)
    refuse_release(watched.store)
    watched.state()  # what a first look takes is over when the address is there
    try:
        server = _Server(Site(watched), port)
    except (OSError, OverflowError):
        raise InputError(f"--port {port}: cannot be used; another is wanted, or 0 for any that is free") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield Serving(f"http://{LOOPBACK}:{server.server_port}/{server.site.token}/", server.server_port, server.site)
    finally:
        server.shutdown()
        server.server_close()
