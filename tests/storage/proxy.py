"""A proxy before a store that counts requests, loses answers and refuses."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

_LARGE = 1 << 20
_ALONE = 10.0  # seconds
CHANGES = ("PUT", "POST", "DELETE", "PATCH")
LOST, LATE, BUSY = "applied, and the answer lost", "applied, and answered by 503", "not applied, answered by 503"
KILLED = "applied, and whoever asked is killed before the answer"


class Proxy:
    """What has passed, and what goes wrong.

    Attributes:
      port: on 127.0.0.1.
      requests: method and path of each, and where the path does not name the object its name.
      fault: number of a change (from 0), method and path -> LOST, LATE, BUSY, KILLED, or None: all is well.
      kill: what KILLED calls.
      cut: so many of the next large answers break off half-way.
      busy: method and path of what changes nothing -> whether it is answered by 503.
      meets: method and path -> whether a request waits until `together` of such wait at the same time.
      together: so many; a request that stays alone is passed on after some seconds.
      most: requests that waited at the same time.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[str] = []
        self.fault: Callable[[int, str], str | None] = lambda _, __: None
        self.kill: Callable[[], None] = lambda: None
        self.changes = self.cut = 0
        self.busy: Callable[[str], bool] = lambda _: False
        self.meets: Callable[[str], bool] = lambda _: False
        self.together = 1
        self.most = self._waiting = 0
        self._mutex = threading.Lock()
        self._met = threading.Condition(self._mutex)

    def meet(self, asked: str) -> None:
        """Waits for the others of those that meet, not for a time: a busy machine may be slow to send them."""
        with self._met:
            if self.meets(asked):
                self._waiting += 1
                self.most = max(self.most, self._waiting)
                self._met.notify_all()
                self._met.wait_for(lambda: self.most >= self.together, _ALONE)
                self._waiting -= 1

    def pass_on(self) -> None:
        """Lets what waits go on, and all that comes."""
        with self._met:
            self.together = 0
            self._met.notify_all()

    def naming(self, place: str) -> list[str]:
        """The requests whose paths name a place: what earlier tests left in this process may ask as well."""
        return [asked for asked in self.requests if f"{place}/" in unquote(asked)]

    def passes(self, asked: str) -> str | None:
        """Counts a request; returns what goes wrong with it."""
        with self._mutex:
            self.requests.append(asked)
            if not asked.startswith(CHANGES):
                return BUSY if self.busy(asked) else None
            self.changes += 1
            return self.fault(self.changes - 1, asked)


def _named(body: bytes) -> str:
    """The name of an object that Google's library sends in the body."""
    found = re.search(rb'"name": *"([^"]+)"', body[:1000])
    return f"&name={found[1].decode()}" if found else ""


@contextlib.contextmanager
def before(port: int) -> Iterator[Proxy]:
    """A proxy before a server on 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def log_message(self, *_: object) -> None:
            pass

        def _pass(self) -> None:
            body = self._body()
            asked = f"{self.command} {self.path}{_named(body)}"
            proxy.meet(asked)
            fault = proxy.passes(asked)
            if fault == BUSY:
                self._answer(503, [], b"")
                return
            status, headers, data = self._forwarded(body)
            if fault == KILLED:
                proxy.kill()
            if fault in (LOST, KILLED):
                self.close_connection = True
            elif fault == LATE:
                self._answer(503, [], b"")
            else:
                self._answer(status, headers, data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            skipped = ("transfer-encoding", "connection", "content-length")
            headers = {name: text for name, text in self.headers.items() if name.lower() not in skipped}
            if body or self.command in CHANGES:
                headers["Content-Length"] = str(len(body))
            onward = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                onward.request(self.command, self.path, body or None, headers)
                answer = onward.getresponse()
                data = answer.read()
                kept = [pair for pair in answer.getheaders() if pair[0].lower() not in skipped[:2]]
                return answer.status, kept, data
            finally:
                onward.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            self.send_response_only(status)
            for name, text in headers:
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, text)
            if self.command != "HEAD" and status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if len(data) > _LARGE and proxy.cut > 0:
                proxy.cut -= 1
                self.close_connection = True
                data = data[: len(data) // 2]
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        proxy = Proxy(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
