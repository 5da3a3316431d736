"""Who may ask, and what is never answered: by bytes on a socket, as an attacker on this machine or a page would."""

from __future__ import annotations

import http.client
import itertools
import json
import resource
import socket
import threading
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from pe_beam.cli.main import main
from pe_beam.errors import InputError
from pe_beam.watch.opening import opened
from pe_beam.watch.server import serving
from tests.test_console import interrupted, started


def ask(served, path, *, host=None, method="GET", headers=None):
    """Status, headers and body of one request; `path` is below the token."""
    url = urlsplit(served.url)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.putrequest(method, path if path.startswith("/") else url.path + path, skip_host=True)
    connection.putheader("Host", url.netloc if host is None else host)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def test_whoever_has_the_token_gets_the_page_and_nothing_is_kept(served):
    status, headers, body = ask(served, "")
    assert status == 200
    assert b"<h1>small</h1>" in body
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "Set-Cookie" not in headers
    assert "Python" not in headers["Server"]
    assert "Access-Control-Allow-Origin" not in headers


def test_a_wrong_token_is_like_a_wrong_path(served):
    token = served.site.token
    for path in (
        "/",
        "/state",
        f"/{token[:-1]}/state",
        f"/{token}x/",
        f"/{token.swapcase()}/",
        "/%00/state",
        f"/{token}",
    ):
        status, _, body = ask(served, path)
        assert (status, body) == (404, b""), path
    assert ask(served, "nothing")[0] == 404


def test_another_name_of_this_machine_is_refused(served):
    """DNS rebinding: a page of evil.example whose name is pointed at 127.0.0.1 sends its own name."""
    for host in (
        "evil.example",
        f"evil.example:{served.port}",
        "127.0.0.1",
        f"127.0.0.1:{served.port + 1}",
        "",
        "[::1]",
    ):
        assert ask(served, "state", host=host)[0] == 403, host
    assert ask(served, "state", host=f"localhost:{served.port}")[0] == 200
    assert ask(served, "state", headers={"Origin": "http://evil.example"})[0] == 403
    assert ask(served, "state", headers={"Origin": f"http://127.0.0.1:{served.port}"})[0] == 200
    for raw in (b"GET / HTTP/1.0\r\n\r\n", f"GET /{served.site.token}/state HTTP/1.1\r\n\r\n".encode()):
        assert b" 403 " in said(served, raw).partition(b"\r\n")[0]


def said(served, raw):
    """What a socket answers to bytes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_it_listens_on_the_loopback_interface_alone(served):
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it says which address of this machine would be used
        own = probe.getsockname()[0]
    except OSError:
        pytest.skip("this machine has no other interface")
    finally:
        probe.close()
    with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
        socket.create_connection((own, served.port), timeout=2)


def test_only_reading_is_answered(served):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert ask(served, "state", method=method)[0] == 501
    status, _, body = ask(served, "state", method="HEAD")
    assert (status, body) == (200, b"")
    long = said(served, b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n")
    assert b" 414 " in long.partition(b"\r\n")[0]
    assert b"aaaa" not in long
    assert b"<" not in said(served, b"\x16\x03\x01<script>\r\n\r\n")
    smuggled = f"GET /{served.site.token}/state HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: 40\r\n\r\n"
    assert said(served, smuggled.encode() + b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").count(b"HTTP/1.1 ") == 1


def test_no_file_of_the_run_is_served(served, digits):
    """Everything under private/ and work/, and the rest too, by every spelling of its path."""
    files = [str(path.relative_to(digits)) for path in digits.rglob("*") if path.is_file()]
    assert {"private/secret.key", "ledger.jsonl", "recipe.yaml"} <= set(files)
    assert any(name.startswith("work/") for name in files)
    above = ("", "../", "..%2f", "%2e%2e/", "/", "state/../", f"{digits}/", "file://")
    for name in files:
        for climb in above:
            assert ask(served, f"{climb}{quote(name)}" if climb != "/" else f"/{quote(name)}")[0] == 404
    for name in ("private/secret.key", "../private/secret.key", "..", "work", "0/../../private"):
        for what in ("state", "gallery?population=0&start=0", "family?population=0&candidate=0"):
            mark = "&" if "?" in what else "?"
            status, _, body = ask(served, f"{what}{mark}window={quote(name)}")
            assert status == 200  # a run has no windows, and takes no notice
            assert body == ask(served, what)[2]


def test_nothing_private_is_in_what_is_served(served, digits):
    """Neither the secret nor what files of private/ say; not even to the holder, beyond what `status` says."""
    bodies = b"".join(
        ask(served, path)[2]
        for path in ("", "state", "gallery?population=1&start=0", "gallery?population=1&start=3&label=2")
    )
    secret = (digits / "private/secret.key").read_bytes()
    assert secret not in bodies
    assert secret.hex().encode() not in bodies
    index = json.loads((digits / "private/embeddings/index.json").read_text())
    hidden = [value for value in index.values() if isinstance(value, str) and len(value) >= 32]
    assert hidden
    assert not [value for value in hidden if value.encode() in bodies]
    public = json.dumps(json.loads(ask(served, "state")[2])["public"])
    for word in ("seconds", "stage", str(digits), "left", "running"):
        assert word not in public


def test_numbers_are_checked_and_messages_repeat_nothing(served):
    for query in (
        "population=9",
        "population=-1",
        "population=<b>",
        "population=1&start=" + "9" * 30,
        "",
        "population=²",
    ):
        status, headers, body = ask(served, f"gallery?{quote(query, safe='=&')}")
        assert status == 409, query
        assert headers["Content-Type"] == "application/json"
        assert b"<b>" not in body
    assert ask(served, "gallery?population=1&label=10&start=0")[0] == 409
    assert ask(served, "gallery?population=1&label=9&start=99999")[0] == 200
    assert ask(served, "family?population=1&candidate=7")[0] == 409


def test_an_equal_state_is_not_sent_again(served):
    status, headers, _ = ask(served, "state")
    assert status == 200
    status, again, body = ask(served, "state", headers={"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"")
    assert again["ETag"] == headers["ETag"]
    assert ask(served, "gallery?population=9", headers={"If-None-Match": headers["ETag"]})[0] == 409


def test_memory_stays_flat_over_thousands_of_polls(served, monkeypatch):
    """Of a page that stays open: it polls, and draws ranges anew. Some looks at the run are among them."""
    monkeypatch.setattr("pe_beam.watch.following._NEAR", 0.1)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    url = urlsplit(served.url)

    def polls(number):
        for turn in range(number):
            drawn = f"gallery?population={turn % 2}&start={turn % 3}&label={turn % 10}"
            connection.request("GET", url.path + (drawn if turn % 5 == 0 else "state"))
            assert connection.getresponse().read()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    sizes = [polls(900) for _ in range(4)]
    connection.close()
    # What each poll leaves behind makes all of them larger; what else the process does, one of them.
    assert min(later - earlier for earlier, later in itertools.pairwise(sizes)) < 1 << 20, sizes


def test_what_cannot_be_served_is_said(served, digits, capsys):
    assert main(["watch", str(digits / "release")]) == 2
    assert "its run directory is wanted" in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot be used"), serving(str(digits), port=served.port):
        pass
    with pytest.raises(InputError, match="cannot be used"), serving(str(digits), port=70000):
        pass


def test_ctrl_c_ends_it_and_the_port_is_free_again(tmp_path):
    process = started(["watch", str(tmp_path / "nothing-yet")])
    assert process.stdout is not None
    word, url = process.stdout.readline().split()
    assert word == "page"
    assert url.startswith("http://127.0.0.1:")
    assert interrupted(process) == "pe-beam: interrupted\n"
    assert not (tmp_path / "nothing-yet").exists()  # to look makes nothing
    with serving(str(tmp_path), port=urlsplit(url).port or 0):
        pass


def test_a_browser_is_sent_on_by_a_file_that_its_owner_alone_can_read(served, monkeypatch):
    given = []
    monkeypatch.setattr("webbrowser.open", lambda address: given.append(address) or True)
    with opened(served.url) as found:
        assert found
        (address,) = given
        assert served.site.token not in address
        path = Path(urlsplit(address).path)
        assert path.stat().st_mode & 0o077 == 0
        assert served.url in path.read_text()
    assert not path.exists()


def test_a_thread_that_cannot_start_takes_no_place(served, monkeypatch):
    """At a limit of the machine; after as many as there are places nobody would be answered any more."""
    started_thread = threading.Thread.start

    def refused(thread):
        if thread.daemon and thread.name.endswith("(process_request_thread)"):
            raise RuntimeError("can't start new thread")
        started_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    for _ in range(40):
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(served, "state")
    monkeypatch.undo()
    assert ask(served, "state")[0] == 200
