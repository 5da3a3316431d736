"""What the CPU multiplies fast, by the flags that the system tells. Nothing is imported for it."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = "/proc/cpuinfo"
_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}  # of x86 and ARM
_TILES = {"amx_bf16"}
_INTEGERS = {"amx_int8", "avx512_vnni", "avx_vnni"}  # they add four products of 8 bits without losing any


def multiplies_bfloat16(cpuinfo: str = _CPUINFO) -> bool:
    """Returns whether the CPU has instructions for bfloat16. Without them torch is slower than in float32."""
    return not _BFLOAT16.isdisjoint(_flags(cpuinfo))


def multiplies_tiles(cpuinfo: str = _CPUINFO) -> bool:
    """Returns whether the CPU has matrix units for bfloat16."""
    return not _TILES.isdisjoint(_flags(cpuinfo))


def multiplies_integers(cpuinfo: str = _CPUINFO) -> bool:
    """Returns whether the CPU has instructions for 8-bit integers. Without them libraries may cut sums to 16 bits."""
    return not _INTEGERS.isdisjoint(_flags(cpuinfo))


def _flags(cpuinfo: str) -> set[str]:
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return set()
    return next(
        (set(line.split(":")[1].split()) for line in lines if line.lower().startswith(("flags", "feat"))), set()
    )
