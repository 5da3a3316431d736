"""A service that answers whatever a test likes, for services that are broken or mean harm."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

Reply = tuple[int, dict[str, str], Any]
"""Status, headers, and a body: bytes, or what becomes JSON."""


class Hostile(http.server.ThreadingHTTPServer):
    """A server on a thread, for the length of a `with`.

    Args:
      reply: path and body of a POST, and how many came before -> what is answered.
      models: what is answered to a GET; None: an empty list of models.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, reply: Callable[[str, dict[str, Any], int], Reply], models: Reply | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.models = models or (200, {}, {"object": "list", "data": []})
        self.asked: list[str] = []
        self._mutex = threading.Lock()

    def __enter__(self) -> Hostile:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next(self, path: str) -> int:
        with self._mutex:
            self.asked.append(path)
            return len(self.asked) - 1

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # see tests/custody/servers.py
    server: Hostile

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.server.next(self.path)
        self._send(*self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._send(*self.server.reply(self.path, body, self.server.next(self.path)))

    def _send(self, status: int, headers: dict[str, str], body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def chat(number: int, **changes: Any) -> dict[str, Any]:
    """An answer of a chat, with other entries for its choice or its usage."""
    said = changes.pop("content", f"Soup number {number} was good and warm.")
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    usage = changes.pop("usage", {"prompt_tokens": 10, "completion_tokens": 10})
    return {"id": "c", "choices": [choice | changes], "usage": usage}
