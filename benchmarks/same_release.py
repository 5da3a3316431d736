"""Do two checkouts give the same release? Digits, a table and a text, with one secret; and runs that change hands.

    git worktree add --detach /tmp/old COMMIT
    python benchmarks/same_release.py --other /tmp/old [-- BEAM FLAGS]

Each recipe is run whole by both checkouts. Then the other one begins it, is killed after iteration 1, and this one goes
on.
All releases of a recipe must be equal, byte for byte. Leaves with 1 where they are not.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _place import RECIPES, ROOT

from pe_beam.recipe.identity import to_plain
from pe_beam.recipe.loading import load_recipe
from tests.modalities.text.recipes import TEXTS, serve, write_texts
from tests.modalities.text.server import Served


def recipes(folder: Path, *, toy: bool) -> dict[str, dict[str, Any]]:
    """Name -> a recipe as plain data; the text run still wants its server."""
    small = {"evolution.iterations": 2, "evolution.samples": 40} if toy else {}
    digits = to_plain(load_recipe(RECIPES / "digits.yaml", {"privacy.epsilon": 1, **small}))
    table = to_plain(load_recipe(RECIPES / "breast-cancer.yaml", {"privacy.epsilon": 1, **small}))
    text = copy.deepcopy(TEXTS)
    text["data"]["path"] = str(write_texts(folder / "texts.csv"))
    text["privacy"]["epsilon"] = 1
    text["evolution"]["iterations"] = 3
    for plain in (digits, table):  # what an older checkout does not know yet is left at its default
        del plain["execution"], plain["data"]["options"], plain["generators"]
    return {"digits": digits, "table": table, "text": text}


def start(checkout: Path, recipe: Path, run_dir: Path, secret: Path, flags: list[str]) -> subprocess.Popen[bytes]:
    """`pe-beam run` of a checkout."""
    command = [sys.executable, "-m", "pe_beam", "run", str(recipe), "--run-dir", str(run_dir)]
    command += ["--secret-file", str(secret), *(["--", *flags] if flags else [])]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    return subprocess.Popen(command, cwd=checkout, env=environment, stderr=subprocess.PIPE)


def run(checkout: Path, recipe: Path, run_dir: Path, secret: Path, flags: list[str]) -> str:
    """Runs a recipe to its end; returns the digest of its release."""
    process = start(checkout, recipe, run_dir, secret, flags)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{checkout}: {recipe.stem} failed: {said.decode()[-2000:]}")
    return digest(run_dir)


def digest(run_dir: Path) -> str:
    """SHA-256 over names and bytes of a release."""
    found = hashlib.sha256()
    for path in sorted((run_dir / "release").rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(run_dir)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def handed_over(old: Path, recipe: Path, run_dir: Path, secret: Path, flags: list[str]) -> str:
    """The other checkout begins and is killed; this one goes on. Returns the digest of the release."""
    process = start(old, recipe, run_dir, secret, flags)
    while not (run_dir / "release/iteration=0001/manifest.json").exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    return run(ROOT, recipe, run_dir, secret, flags)


def main() -> None:
    """Prints a line for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, default=ROOT, help="a checkout of another commit")
    parser.add_argument("--only", choices=("digits", "table", "text"), help="one recipe alone")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    parser.add_argument("flags", nargs="*", help="Beam flags, after --")
    options = parser.parse_args()
    equal = True
    with tempfile.TemporaryDirectory(prefix="same-release-") as name, Served(Path(name) / "log") as server:
        folder = Path(name)
        (folder / "secret").write_bytes(bytes(range(32)))
        os.environ["PE_BEAM_TEST_KEY"] = "sk-any"
        for title, plain in recipes(folder, toy=options.toy).items():
            if options.only not in (None, title) or (options.toy and title != "digits"):
                continue
            recipe = folder / f"{title}.yaml"
            recipe.write_text(json.dumps(serve(plain, server) if title == "text" else plain))
            about = (folder / "secret", options.flags)
            found = {"this": run(ROOT, recipe, folder / f"{title}-this", *about)}
            if options.other != ROOT:
                found["other"] = run(options.other, recipe, folder / f"{title}-other", *about)
            found["handed over"] = handed_over(options.other, recipe, folder / f"{title}-over", *about)
            same = len(set(found.values())) == 1
            equal &= same
            print(f"{title:<7} {'the same' if same else found} {found['this'][:16]}", flush=True)
    if not equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
