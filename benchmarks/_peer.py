"""Runs MST or AIM of smartnoise-synth in an environment of its own. It imports nothing of ours.

    python _peer.py METHOD EPSILON DELTA SEED ROWS < IN.json > OUT.json

IN.json: {"sizes": {column: bins}, "codes": {column: [...]}}, all codes from 0 to bins - 1. OUT.json: {"codes": ...,
"seconds": ..., "megabytes": peak of this process}.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
import warnings


def main() -> None:
    """Fits a synthesizer on codes and draws from it."""
    warnings.filterwarnings("ignore")
    import numpy as np
    import pandas as pd
    from snsynth import Synthesizer
    from snsynth.transform import LabelTransformer, TableTransformer

    method, epsilon, delta, seed, rows = sys.argv[1], *map(float, sys.argv[2:4]), *map(int, sys.argv[4:6])
    given = json.load(sys.stdin)
    np.random.seed(seed)  # the library draws its choices from it
    most = max(given["sizes"].values())
    # The domain is declared: a public frame with every code, not the private one, tells the library what there is.
    domain = pd.DataFrame({name: np.arange(most) % size for name, size in given["sizes"].items()})
    with contextlib.redirect_stdout(sys.stderr):
        began = time.time()
        transformer = TableTransformer([LabelTransformer(nullable=False) for _ in domain.columns])
        transformer.fit(domain)
        synthesizer = Synthesizer.create(method, epsilon=epsilon, delta=delta)
        synthesizer.fit(pd.DataFrame(given["codes"]), transformer=transformer, preprocessor_eps=0.0)
        drawn = synthesizer.sample(rows)
        seconds = time.time() - began
    codes = {name: [int(code) for code in drawn[name]] for name in given["sizes"]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump({"codes": codes, "seconds": seconds, "megabytes": peak}, sys.stdout)


if __name__ == "__main__":
    main()
