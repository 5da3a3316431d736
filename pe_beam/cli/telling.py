"""`pe-beam status` and `pe-beam privacy`, of runs and of streams."""

from __future__ import annotations

import argparse
from typing import Any

from pe_beam.cli.terminal import print_json, told_epsilon
from pe_beam.errors import InputError
from pe_beam.wording import counted


def stream_of(path: str) -> Any:
    """Returns the store of a directory if it is that of a stream, else None."""
    from pe_beam.storage import open_store
    from pe_beam.streams.status import is_stream

    store = open_store(path)
    return store if is_stream(store) else None


def _stream_status(store: Any, *, as_json: bool) -> None:
    from pe_beam.streams.status import status

    found = status(store)
    if as_json:
        print_json(found)
        return
    working = found.pop("window_at_work") or {}
    found |= {f"window {key}": value for key, value in working.items()}
    for key, value in found.items():
        if value is not None:
            print(f"{key.replace('_', ' '):<22} {told_epsilon(value) if key == 'epsilon' else value}")


def _stream_privacy(streams: list[Any], *, as_json: bool) -> None:
    from pe_beam.streams.status import privacy

    if len(streams) > 1:
        raise InputError("privacy: one stream, or runs on the same data; not several streams, or both")
    found = privacy(streams[0])
    if as_json:
        print_json(found)
        return
    print(found["statement"])
    windows = counted(len({line["window"] for line in found["ledger"]}), "window")
    print(f"\nspent by {windows}; each costs epsilon {told_epsilon(found['window_epsilon'])} by itself")


def tell_status(options: argparse.Namespace) -> None:
    """`pe-beam status`: prints where a run or a stream stands."""
    from pe_beam.driver.status import status

    stream = stream_of(options.dir)
    if stream is not None:
        _stream_status(stream, as_json=options.json)
        return
    found = status(options.dir)
    if options.json:
        print_json(found)
        return
    times = found.pop("times")
    kinds = "; ".join(found.pop("left_out"))
    found |= {"left_out": kinds} if kinds else {}
    for name, used in found.pop("services").items():
        found |= {f"{name} {what}": value for what, value in used.items()}
    width = max(20, *map(len, found))
    for key, value in found.items():
        print(f"{key.replace('_', ' '):<{width}} {told_epsilon(value) if key.startswith('epsilon') else value}")
    for entry in times:
        print(f"  {entry['what']:<24} {entry['seconds']:8.1f} s")


def tell_privacy(options: argparse.Namespace) -> None:
    """`pe-beam privacy`: prints what is promised, and the ledger."""
    from pe_beam.driver.status import privacy

    streams = [stream_of(path) for path in options.dir]
    if any(store is not None for store in streams):
        _stream_privacy(streams, as_json=options.json)
        return
    found = privacy(options.dir)
    if options.json:
        print_json(found)
        return
    print(found["statement"])
    for run in found["runs"]:
        print(f"\n{run['dir']}: epsilon {told_epsilon(run['spent_epsilon'])}, delta {run['delta']:g}")
        for line in run["ledger"]:
            what = f", measured {line['measured']}" if "measured" in line else ""
            print(f"  iteration {line['iteration']}{what}: noise multiplier {line['noise_multiplier']:.6g}")
        for each in run.get("start", {}).get("ancestors", []):
            kind = f"{each['adjacency']}; unit: {each['unit']}"
            data = "the same data" if each["data"] == 0 else f"{counted(each['sets'], 'set')} of other data"
            rounds = counted(len(each["noise_multiplier"]), "round")
            print(f"  before it, on {data}: release {each['digest'][:12]}, {rounds} ({kind})")
        if "private_kept" in run:
            print(f"  {run['private_kept']}")
