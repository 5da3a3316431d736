"""What a benchmark of votes says about the machine, and how it prints and keeps its figures."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_PACKAGES = ("numpy", "faiss-cpu", "torch", "pyarrow", "apache-beam")


def machine() -> Row:
    """CPU, flags that matter to products, cores, threads of BLAS, versions, load."""
    from threadpoolctl import threadpool_info

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    said = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    flags = said.get("flags", "").split()
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    blas = {f"{pool['internal_api']} {pool['version']}": pool["num_threads"] for pool in threadpool_info()}
    return {
        "cpu": said.get("model name", platform.machine()),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "threads": blas,
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
    }


def show(what: str, rows: list[Row], path: Path | None) -> None:
    """Prints the machine and a table, and writes both as JSON where a path is given."""
    about = machine()
    print(f"{what}: {about['cpu']}, {', '.join(about['flags'])}, {about['cores']} cores, load {about['load']}")
    print(f"threads {about['threads']}; {about['versions']}")
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if path is not None:
        path.write_text(json.dumps({"what": what, "machine": about, "rows": rows}, indent=1) + "\n")


def _cell(value: Any) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, (int, float))
        else str(value)
    )
