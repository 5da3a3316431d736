"""docs/offline.md says that a run asks no host but those that it names: what Python's own sockets do is listened to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_LISTENING = """
import sys

def listen(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        asked = arguments[1]
    elif event == "socket.getaddrinfo":
        asked = arguments[0]
    else:
        return
    print("ASKED", event, asked, file=sys.stderr)

sys.addaudithook(listen)
from pe_beam.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_and_what_is_made_of_it_ask_no_host(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for words in (
        ["run", "digits", "--run-dir", run, "--set", "evolution.iterations=1"],
        ["report", run],
        ["export", run, "--to", tmp_path / "samples.jsonl"],
    ):
        command = [sys.executable, "-c", _LISTENING, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "ASKED" not in done.stderr
