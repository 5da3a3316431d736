"""Devices of torch, and settings with which a vector depends only on its record there (DESIGN, rule 13)."""

from __future__ import annotations

import os
from typing import Any

import torch

from pe_beam.errors import RecipeError


def make_exact(device: str | torch.device) -> dict[str, Any]:
    """Changes settings of the process for a device. Returns arguments for loading a model of `transformers`.

    Turns off TF32, which PyTorch allows in convolutions by default, and the choice of kernels by timing. Attention is
    eager: a batch in which no text is padded has no mask, so another kernel would compute it than other batches. On a
    CPU nothing is changed: its kernels were found to keep the contract, and vectors keep their bytes.

    The settings belong to the process. Call this again before embedding, because another library may have changed them.
    """
    if torch.device(device).type == "cpu":
        return {}
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may add in another order
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Since torch 2.9 the two settings above mean "as the parent says", and the parent may say TF32.
    cudnn: Any = torch.backends.cudnn
    for part in (torch.backends.cuda.matmul, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None)):
        if part is not None and hasattr(part, "fp32_precision"):
            part.fp32_precision = "ieee"
    return {"attn_implementation": "eager"}


def find_device(name: str | None, *, key: str) -> torch.device:
    """Returns the device that an option names. None is the best that there is.

    Args:
      name: as torch names it.
      key: the recipe key, for the message.

    Raises:
      RecipeError: it is not on this machine.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise RecipeError(
            f"{key}: {name!r} is not on this machine; null (the best there is), cpu, cuda or mps is wanted"
        ) from None
    return device


def has_device(name: str | None) -> bool:
    """Tells whether the device that an option names is on this machine. See `find_device`."""
    try:
        find_device(name, key="")
    except RecipeError:
        return False
    return True
