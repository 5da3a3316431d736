"""dp-accounting's module of exact Gaussian functions, without what takes a second of each process to import.

Its package imports all of itself, and scipy.stats builds all its distributions. Of those the module asks for one
function, the log of the standard normal CDF, which `scipy.special.log_ndtr` computes: scipy.stats calls it too.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


@functools.cache
def gaussian_mechanism() -> Any:
    """Returns the module: `get_sigma_gaussian(epsilon, delta)` and `get_epsilon_gaussian(sigma, delta)`."""
    spec = importlib.util.find_spec("dp_accounting")
    file = Path((spec.submodule_search_locations or [""])[0], "gaussian_mechanism.py") if spec else Path()
    alone = importlib.util.spec_from_file_location("pe_beam.privacy._gaussian_mechanism", file)
    if "dp_accounting" in sys.modules or not file.is_file() or alone is None or alone.loader is None:
        return importlib.import_module("dp_accounting.gaussian_mechanism")
    module = importlib.util.module_from_spec(alone)
    module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import}
    alone.loader.exec_module(module)
    return module


def _import(name: str, *further: Any) -> Any:
    """Imports for that module alone: `import scipy.stats` gives it SciPy with `norm.logcdf` at hand."""
    names = further[2] if len(further) > 2 else ()
    if name != "scipy.stats" or names:
        return builtins.__import__(name, *further)
    import scipy.optimize
    from scipy.special import log_ndtr

    norm = _Lean(lambda: importlib.import_module(name).norm, logcdf=log_ndtr)
    return _Lean(lambda: scipy, stats=_Lean(lambda: importlib.import_module(name), norm=norm))


class _Lean:
    """Something with a few attributes at hand. The others are those of what it stands for, made when one is wanted."""

    def __init__(self, whole: Callable[[], Any], **own: Any) -> None:
        self._whole = whole
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole(), name)
