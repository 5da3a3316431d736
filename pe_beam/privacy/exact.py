"""dp-accounting's module of exact Gaussian functions."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


@functools.cache
def gaussian_mechanism() -> Any:
    """Returns the module: `get_sigma_gaussian(epsilon, delta)` and `get_epsilon_gaussian(sigma, delta)`.

    It is loaded without the rest of its package, whose __init__ imports all of it and takes a second of each process.
    """
    spec = importlib.util.find_spec("dp_accounting")
    file = Path((spec.submodule_search_locations or [""])[0], "gaussian_mechanism.py") if spec else Path()
    alone = importlib.util.spec_from_file_location("pe_beam.privacy._gaussian_mechanism", file)
    if "dp_accounting" in sys.modules or not file.is_file() or alone is None or alone.loader is None:
        return importlib.import_module("dp_accounting.gaussian_mechanism")
    module = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(module)
    return module
