"""The ledger of a stream: a line for each window and iteration, on disk before the window's own ledger has one.

A line means that its budget is spent. It binds the members and the secret of the window by HMACs under the registry's
key, so that a window is never run again on other members or with another secret, and no two windows share one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pe_beam.contracts.store import Store
from pe_beam.engine.queries import query_of, spending_iterations
from pe_beam.engine.run import Run
from pe_beam.engine.spending import secret_of
from pe_beam.errors import InputError
from pe_beam.keyed import encode_fields
from pe_beam.recipe.windows import manifest_name, registry_key
from pe_beam.streams.layout import LEDGER

VERSION = 1
_KEYS = {"version", "window", "iteration", "sigma", "sensitivity", "noise_multiplier", "members", "secret"}


def read_lines(store: Store) -> list[dict[str, Any]]:
    """Returns the lines in the order in which they were written. Raises InputError as `parse_lines`."""
    return parse_lines(store.read(LEDGER)) if store.exists(LEDGER) else []


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """Returns the terminated lines of a ledger.

    Raises:
      InputError: this version did not write a line.
    """
    found = []
    for number, text in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or set(line) != _KEYS or line["version"] != VERSION:
            raise InputError(f"{LEDGER}: line {number} is none that this version writes; put the ledger back")
        found.append(line)
    return found


def refuse_other_members(store: Store, lines: Sequence[Mapping[str, Any]]) -> None:
    """Compares the registry with what the last window in the ledger was paid for.

    With another key no position and no client would be known again.

    Raises:
      InputError: the key of the registry, or the manifest of that window, is another one.
    """
    if not lines:
        return
    manifest = store.read_committed(manifest_name(lines[-1]["window"]))
    if not hmac.compare_digest(lines[-1]["members"], _hmac(registry_key(store.uri), "members", manifest)):
        raise InputError(
            f"private/registry: its key, or the manifest of the last window in {LEDGER}, is not the stream's own; put "
            "it back as it was, or start a new stream"
        )


def write_lines(store: Store, run: Run, name: str, manifest: bytes) -> None:
    """Writes what a window will spend. Lines that are there have to be the same.

    Args:
      store: of the stream.
      run: of the window; its records are frozen, and nothing is spent.
      name: of the window.
      manifest: the bytes of its manifest.

    Raises:
      InputError: the window was paid for with other members, another secret or another noise, or its secret is that of
        another window.
    """
    key = registry_key(store.uri)
    bound = {"members": _hmac(key, "members", manifest), "secret": _hmac(key, "secret", secret_of(run))}
    wanted = [_line(run, name, iteration) | bound for iteration in spending_iterations(run)]

    def change(before: bytes | None) -> bytes:
        whole = (before or b"")[: (before or b"").rfind(b"\n") + 1]  # an unterminated last line was never written
        missing = _missing(parse_lines(whole), name, wanted)
        return whole + "".join(json.dumps(line, allow_nan=False) + "\n" for line in missing).encode("ascii")

    store.update(LEDGER, change)


def _missing(lines: list[dict[str, Any]], name: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the wanted lines of a window that are not written. Raises InputError as `write_lines`."""
    if any(line["secret"] == wanted[0]["secret"] and line["window"] != name for line in lines):
        raise InputError(f"{LEDGER}: window {name} has the secret of another window; each needs one of its own")
    written = {line["iteration"]: line for line in lines if line["window"] == name}
    if any(written.get(line["iteration"], line) != line for line in wanted):
        raise InputError(
            f"{LEDGER}: window {name} was paid for with other members, another secret or another noise; put its "
            "directory and private/registry back as they were"
        )
    return [line for line in wanted if line["iteration"] not in written]


def _line(run: Run, name: str, iteration: int) -> dict[str, Any]:
    sigma, sensitivity, multiplier = query_of(run, iteration).cost()
    return {
        "version": VERSION,
        "window": name,
        "iteration": iteration,
        "sigma": sigma,
        "sensitivity": sensitivity,
        "noise_multiplier": multiplier,
    }


def _hmac(key: bytes, purpose: str, value: bytes) -> str:
    fields = encode_fields("pe_beam/stream-ledger", VERSION, purpose, bytes(value))
    return hmac.new(key, fields, hashlib.sha256).hexdigest()
