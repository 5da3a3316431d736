"""docs/offline.md says that a run asks no host but those that it names: what Python's own sockets do is listened to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_LISTENING = """
import json
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
for words in json.loads(sys.argv[1]):
    assert main(words) == 0
"""


def test_a_run_and_what_is_made_of_it_ask_no_host(tmp_path: Path) -> None:
    run = tmp_path / "run"
    commands = [
        ["run", "digits", "--run-dir", str(run), "--set", "evolution.iterations=1"],
        ["report", str(run)],
        ["export", str(run), "--to", str(tmp_path / "samples.jsonl")],
    ]
    command = [sys.executable, "-c", _LISTENING, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "ASKED" not in done.stderr
