"""Fetches two vendors' emoji through npm: one as private pictures, the other as a public set.

python docs/examples/emoji/fetch.py FOLDER

FOLDER/private/<category>/ gets Twitter's pictures of three categories, FOLDER/public/<category>/ Google's of all, each
64 x 64 pixels. The packages are `emoji-datasource-twitter` and `emoji-datasource-google`; their LICENSE files say whose
the pictures are. What is there already is not fetched again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "16.0.0"
VENDORS = {"twitter": "private", "google": "public"}
PRIVATE = ("animals-and-nature", "food-and-drink", "smileys-and-emotion")
_LEFT_OUT = ("Component", "Flags")  # parts of others; and flags, which are the same of every vendor


def fetch(folder: Path) -> None:
    """Both sides; needs the program npm."""
    for vendor, side in VENDORS.items():
        if not (folder / side).is_dir():
            _fetch_vendor(vendor, folder / side)


def _fetch_vendor(vendor: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        package = f"emoji-datasource-{vendor}@{VERSION}"
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("npm is not installed")
        subprocess.run([npm, "pack", "--silent", package], cwd=name, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(name).glob("*.tgz")
        with tarfile.open(archive) as tar:
            kept = f"package/img/{vendor}/64/"
            members = [m for m in tar if m.name.startswith(kept) or m.name == "package/emoji.json"]
            tar.extractall(name, members, filter="data")
        made = Path(name) / "made"
        for emoji in json.loads((Path(name) / "package/emoji.json").read_text(encoding="utf-8")):
            name_of = emoji["category"].replace(" & ", "-and-").replace(" ", "-").lower()
            wanted = name_of in PRIVATE if vendor == "twitter" else emoji["category"] not in _LEFT_OUT
            if wanted and emoji[f"has_img_{vendor}"]:
                place = made / name_of
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(name) / kept / emoji["image"], place / emoji["image"])
        made.rename(target)  # whole, or not at all


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    fetch(Path(sys.argv[1]))
