"""Where the scripts of this folder stand: import it first, and they run from any folder.

It puts the repository itself on the path, for what they take from `tests/`, and moves their own folder behind all else,
so that `report` or `tables` here is never taken for a library of that name.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "templates" / "recipes"
_HERE = str(ROOT / "benchmarks")

sys.path[:] = [str(ROOT), *(place for place in sys.path if str(Path(place or ".").resolve()) != _HERE), _HERE]
