"""Installs the parts of a local Flink: Beam's job-server jars, built with Maven, and Flink's jars from its package.

Both are put into a cache folder (`$PE_BEAM_CACHE`, or `~/.cache/pe_beam`) once, completely or not at all.
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
    """Java or Maven is missing, or Flink 1.19 does not run on this version of Java."""


def cache_folder() -> Path:
    """Returns the folder of built and installed parts."""
    given = os.environ.get("PE_BEAM_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "pe_beam") / "flink"


def find_java(java: str = "java") -> str:
    """Returns the full path of a Java for Flink 1.19. Raises MissingToolError, which says what is needed."""
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
    """Returns the jar of Beam's job server for Flink: full, or thin for Flink's class path.

    Maven builds it at the first call.

    Raises:
      MissingToolError: Maven is missing, and the jar is not built yet.
      PeBeamError: the build failed (the message names its log), or the files to build from are missing.
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
    """Returns the folder of Flink's own jars. The first call installs them from Flink's Python package."""
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
    """Makes a folder completely or not at all. Of two concurrent callers, one makes it and the other waits."""
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
