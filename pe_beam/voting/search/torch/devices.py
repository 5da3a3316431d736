"""The device that an engine works on: its formats, its memory, and how it multiplies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_info

from pe_beam.voting.search.cpu import multiplies_bfloat16
from pe_beam.voting.search.torch import kernel
from pe_beam.voting.search.torch.precision import BFLOAT16, FLOAT16, FLOAT32, Precision

Multiply = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


@dataclass(frozen=True)
class Setting:
    """What an engine works with.

    Attributes:
      device: the device.
      precisions: formats to try, fastest first. One that the probe refuses is left out, aloud.
      rows: queries that are multiplied at a time.
      columns: candidates that are multiplied at a time, at most.
      block: queries that the engine likes to be given at a time.
      budget: bytes of the device's memory for candidates. More candidates are sent to it tile by tile.
      scan: "host" (NumPy), "triton" or "operations".
      refine: whether pairs are evaluated in float64 on the device.
      streams: whether copies to the device go on while it works. Candidates beyond the budget are then kept ready in
        the host's memory; otherwise they are made anew for each block of queries.
      multiply: writes the product of (n, w) and the transpose of (t, w) into (n, t).
    """

    device: torch.device
    precisions: tuple[Precision, ...]
    rows: int
    columns: int
    block: int
    budget: int
    scan: str
    refine: bool
    streams: bool
    multiply: Multiply


@functools.cache
def find_setting() -> Setting:
    """Returns the setting for the best device of this machine: CUDA or ROCm, then MPS, then the CPU."""
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
        scan = "triton" if kernel.works(device) else "operations"
        return cuda_setting(device, torch.cuda.mem_get_info()[0], scan)
    if torch.backends.mps.is_available():
        budget = torch.mps.recommended_max_memory() // 4
        device = torch.device("mps")
        return Setting(device, (FLOAT16, FLOAT32), 2048, 32768, 8192, budget, "operations", False, False, multiply)
    return cpu_setting((BFLOAT16, FLOAT32) if multiplies_bfloat16() else (FLOAT32,))


def cuda_setting(device: torch.device, free: int, scan: str) -> Setting:
    """Returns the setting for a CUDA or ROCm device with `free` bytes. Candidates take a half of them at most.

    Results are half precision: the scan reads half as many bytes, and the bound holds their rounding.
    """
    rows = 8192 if free >= 1 << 34 else 2048
    block = min(65536, max(rows, free // 16 // 6144 // rows * rows))  # 6 bytes a number: float32 and half precision
    columns = max(4096, free // 16 // (2 * rows) // 4096 * 4096)
    return Setting(
        device, (FLOAT16, FLOAT32), rows, min(columns, 1 << 17), block, free // 2, scan, True, True, multiply
    )


def cpu_setting(precisions: tuple[Precision, ...]) -> Setting:
    """Returns the setting for the CPU. Products of a step, 4 MB of bfloat16, stay in its cache."""
    return Setting(torch.device("cpu"), precisions, 512, 4096, 1024, 1 << 29, "host", False, False, multiply)


def forbid_short_sums(device: torch.device) -> None:
    """Has torch accumulate in float32, and multiply float32 as such. Call it before multiplying: others may change it.

    The settings belong to the process. They are stricter than torch's own: what else is computed only gets more exact.
    """
    torch.set_float32_matmul_precision("highest")
    if device.type == "cuda":
        matmul = torch.backends.cuda.matmul
        matmul.allow_fp16_reduced_precision_reduction = False
        matmul.allow_bf16_reduced_precision_reduction = False
        for name, value in (("allow_fp16_accumulation", False), ("fp32_precision", "ieee")):  # torch 2.7, torch 2.9
            if hasattr(matmul, name):
                setattr(matmul, name, value)


def share_threads() -> None:
    """Has torch use no more threads than NumPy's BLAS, which `execution.blas_threads` may have limited before."""
    allowed = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    if allowed and max(allowed) < torch.get_num_threads():
        torch.set_num_threads(max(allowed))


def multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Multiplies by torch. Float32 results of half precision are something that torch has on CUDA alone."""
    if out.dtype == left.dtype:
        torch.mm(left, right.T, out=out)
    else:
        torch.mm(left, right.T, out_dtype=out.dtype, out=out)


def multiply_tf32(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Multiplies float32 numbers that are TF32 already: exact whether a device takes TF32 or not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        torch.mm(left, right.T, out=out)
    finally:
        torch.set_float32_matmul_precision(before)
