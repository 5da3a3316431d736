"""The same release on Prism, Beam's portable local runner, where its binary is found (docs/runners.md says how)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import parse_recipe
from tests.whole_runs import release_digests


def _binary() -> str | None:
    usual = str(Path("~/go/bin").expanduser())
    return os.environ.get("PE_BEAM_PRISM") or shutil.which("prism", path=f"{os.environ['PATH']}{os.pathsep}{usual}")


@pytest.mark.skipif(_binary() is None, reason="Prism was NOT tested: no binary (docs/runners.md says how to get it)")
@pytest.mark.parametrize("unroll", [False, True])
def test_prism_gives_the_same_release(small, tmp_path, secret_file, unroll):
    recipe = parse_recipe(small)
    flags = ["--runner=PrismRunner", f"--prism_location={_binary()}"]
    evolve(recipe, tmp_path / "prism", flags, secret_file=secret_file, unroll=unroll)
    evolve(recipe, tmp_path / "direct", secret_file=secret_file)
    assert release_digests(tmp_path / "prism") == release_digests(tmp_path / "direct")
