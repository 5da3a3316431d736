"""What torch has to be told so that a vector follows from its record alone on an accelerator (DESIGN, rule 13)."""

from __future__ import annotations

import os
from typing import Any

import torch


def make_exact(device: str | torch.device) -> dict[str, Any]:
    """Settings of the process, and what a model of `transformers` is loaded with, for a device.

    Without TF32, which PyTorch allows in convolutions by default, and without a choice of kernels by timing. Attention
    is eager, for a batch in which no text is padded has no mask, and another kernel takes it than its neighbours. On a
    CPU nothing is changed: its kernels were found to keep the contract, and vectors keep their bytes.

    Settings are the process's own: call it again before embedding, for another library may have changed them.
    """
    if torch.device(device).type == "cpu":
        return {}
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may add in another order
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Since torch 2.9 the two above say "as the parent says", which may say TF32.
    cudnn: Any = torch.backends.cudnn
    for part in (torch.backends.cuda.matmul, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None)):
        if part is not None and hasattr(part, "fp32_precision"):
            part.fp32_precision = "ieee"
    return {"attn_implementation": "eager"}
