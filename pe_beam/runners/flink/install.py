"""Gets what a local Flink needs: Beam's job-server jars, built by Maven, and Flink's own jars from its package.

Both land in a cache folder (`$PE_BEAM_CACHE`, else `~/.cache/pe_beam`), once, whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pe_beam.errors import PeBeamError
from pe_beam.shipped import templates

FLINK_LINE = "1.19"
FLINK_PACKAGE = "apache-flink-libraries==1.19.3"
JAVA_VERSIONS = (11, 17)
TEMPLATES = templates() / "flink"


class MissingToolError(PeBeamError):
    """Java or Maven is not there, or is of a version that Flink 1.19 does not run on."""


def cache_folder() -> Path:
    """Where built and installed pieces are kept."""
    given = os.environ.get("PE_BEAM_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "pe_beam") / "flink"


def find_java(java: str = "java") -> str:
    """The full path of a Java that Flink 1.19 runs on; MissingToolError says what to install."""
    wanted = " or ".join(str(version) for version in JAVA_VERSIONS)
    found = shutil.which(java)
    if found is None:
        raise MissingToolError(
            f"{java}: no Java found on PATH; Flink {FLINK_LINE} needs Java {wanted} "
            "(Debian: apt-get install openjdk-17-jre-headless)"
        )
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) not in JAVA_VERSIONS:
        shown = version[1] if version else "of an unknown version"
        raise MissingToolError(f"{found}: is Java {shown}; Flink {FLINK_LINE} needs Java {wanted}")
    return found


def job_server_jar(*, thin: bool = False) -> Path:
    """Beam's job server for Flink, built by Maven at the first call: full, or thin for Flink's class path.

    Raises:
      MissingToolError: no Maven, and the jar is not built yet.
      PeBeamError: the build failed; the message names its log.
    """
    pom = TEMPLATES / "pom.xml"
    if not pom.exists():
        raise PeBeamError(f"{pom}: missing; the job server is built from a checkout of pe_beam")
    sources = sorted((TEMPLATES / "src").rglob("*.java"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [pom, *sources])).hexdigest()
    folder = cache_folder() / f"job-server-{digest[:12]}"

    def build(into: Path) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            raise MissingToolError("mvn: no Maven found on PATH (Debian: apt-get install maven)")
        shutil.copy(pom, into / "pom.xml")
        shutil.copytree(TEMPLATES / "src", into / "src")
        _command([maven, "-B", "-ntp", "-q", "package"], folder.parent / "maven.log", cwd=into)
        for name in ("beam-flink-job-server.jar", "beam-flink-job-server-thin.jar"):
            (into / "target" / name).rename(into / name)
        shutil.rmtree(into / "target")

    _once(folder, build)
    return folder / ("beam-flink-job-server-thin.jar" if thin else "beam-flink-job-server.jar")


def flink_jars() -> Path:
    """The folder of Flink's own jars, installed from its Python package at the first call."""
    folder = cache_folder() / FLINK_PACKAGE.replace("==", "-")

    def install(into: Path) -> None:
        uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
        _command([*pip, "--no-deps", "--target", str(into), FLINK_PACKAGE], folder.parent / "package.log")

    _once(folder, install)
    return folder / "pyflink" / "lib"


def _command(command: list[str], log: Path, cwd: Path | None = None) -> None:
    with log.open("w") as file:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False)
    if done.returncode:
        raise PeBeamError(f"{Path(command[0]).name}: failed with status {done.returncode}; see {log}")


def _once(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes a folder whole or not at all; of two at once, one makes it and the other waits."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(folder.parent / f"{folder.name}.lock"):
        if folder.exists():
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            make(made)
            made.rename(folder)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
