"""Runs MST or AIM of smartnoise-synth in an environment of its own. It imports nothing of ours.

    python _peer.py METHOD EPSILON DELTA SEED ROWS [ROWS ...] < IN.json > OUT.json

IN.json: {"sizes": {column: bins}, "codes": {column: [...]}}, all codes from 0 to bins - 1. It fits once and draws
once for each ROWS. OUT.json: {"drawn": {ROWS: codes}, "seconds": fit and the first draw, "megabytes": peak of this
process, "load": of the machine, over the last minute}.
"""

from __future__ import annotations

import contextlib
import json
import os
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

    method, epsilon, delta, seed, rows = sys.argv[1], *map(float, sys.argv[2:4]), int(sys.argv[4]), sys.argv[5:]
    given = json.load(sys.stdin)
    np.random.seed(seed)  # the library draws its choices from it
    most = max(given["sizes"].values())
    # The domain is declared: a public frame with every code, not the private one, tells the library what there is.
    domain = pd.DataFrame({name: np.arange(most) % size for name, size in given["sizes"].items()})
    drawn, ends = {}, []
    with contextlib.redirect_stdout(sys.stderr):
        began = time.time()
        transformer = TableTransformer([LabelTransformer(nullable=False) for _ in domain.columns])
        transformer.fit(domain)
        synthesizer = Synthesizer.create(method, epsilon=epsilon, delta=delta)
        synthesizer.fit(pd.DataFrame(given["codes"]), transformer=transformer, preprocessor_eps=0.0)
        for count in rows:
            made = synthesizer.sample(int(count))
            drawn[count] = {name: [int(code) for code in made[name]] for name in given["sizes"]}
            ends.append(time.time())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"drawn": drawn, "seconds": ends[0] - began, "megabytes": peak, "load": os.getloadavg()[0]}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
