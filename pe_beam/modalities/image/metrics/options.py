"""Options of `pe-beam evaluate --set` for metrics of pictures. The driver checks them before anything is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pe_beam import registry
from pe_beam.contracts.embedder import Embedder
from pe_beam.errors import InputError, PeBeamError

SPACES, WRN, WRN_EPOCHS = "spaces", "wrn", "wrn_epochs"

_SHORT = {"inception": "weights", "clip": "model", "dinov2": "model", "timm": "model", "efficientnet-lite0": None}
"""Embedder -> the one option that an evaluation must give it; None: no option, and the value is "yes"."""

OPTIONS = {
    "inception": "path of its weights: FID, KID, precision and more in its space",
    "clip": "folder or hub name: the same in its space",
    "dinov2": "folder or hub name: the same in its space",
    "timm": "folder or name: the same in its space",
    "efficientnet-lite0": "yes: the same in its space",
    SPACES: "a YAML file, name -> an embedder's section: the same in each one's space",
    WRN: "yes (28-10) or DEPTH-WIDTH: a wide residual network trained on the samples",
    WRN_EPOCHS: "its epochs; 50 unless you say otherwise",
}

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def read_options(options: Mapping[str, str]) -> dict[str, str]:
    """Checks every value and loads each embedder once, on the driver.

    Returns:
      The options for the metrics. They have all spaces as JSON below `spaces`, so that workers need no file of options,
      and an interrupted evaluation is not continued with other options.

    Raises:
      InputError: a value is not usable, weights are missing or damaged, a package is not installed.
    """
    network_shape(options)
    spaces = space_sections(options)
    for name, section in spaces.items():
        try:
            space_embedder(name, section).ready()
        except PeBeamError as error:
            raise InputError(_told(name, error)) from None
    kept = {name: value for name, value in options.items() if name in (WRN, WRN_EPOCHS)}
    return kept | ({SPACES: json.dumps(spaces)} if spaces else {})


def space_sections(options: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Returns the name of a space, in which its figures end -> the embedder's section, `name` and its options."""
    found: dict[str, dict[str, Any]] = {}
    for embedder, key in _SHORT.items():
        if embedder in options:
            value = options[embedder]
            if key is None and value != "yes":
                raise InputError(f"--set {embedder}={value}: yes is wanted")
            found[embedder.replace("-", "_")] = {"name": embedder} | ({} if key is None else {key: value})
    for name, section in _listed(options.get(SPACES)).items():
        if name in found:
            raise InputError(f"--set {SPACES}: the name {name!r} is taken by --set {found[name]['name']}")
        found[name] = section
    return found


def _listed(value: str | None) -> dict[str, dict[str, Any]]:
    """Returns the spaces of a YAML file, or of the JSON that `read_options` has made from it."""
    if value is None:
        return {}
    if value.startswith("{"):
        told: dict[str, dict[str, Any]] = json.loads(value)
        return told
    try:
        found = yaml.safe_load(Path(value).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"--set {SPACES}={value}: it cannot be read as YAML ({type(error).__name__}); a file is wanted that says, "
            "line by line, NAME: {name: an embedder, its options}"
        ) from None
    if not isinstance(found, dict) or not found:
        raise InputError(f"--set {SPACES}={value}: a mapping NAME: {{name: an embedder, its options}} is wanted")
    return {_named(name): _section(name, section) for name, section in found.items()}


def _named(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"--set {SPACES}: the name {name!r} is not allowed; a-z, digits and _ are wanted, a-z first")
    return name


def _section(name: str, section: object) -> dict[str, Any]:
    if not isinstance(section, dict) or not isinstance(section.get("name", name), str):
        raise InputError(f"--set {SPACES}: {name}: an embedder's section is wanted: {{name: inception, weights: ...}}")
    return {"name": name} | section


def space_embedder(name: str, section: Mapping[str, Any]) -> Embedder:
    """Returns the embedder of a space.

    Raises:
      InputError: there is no such embedder of pictures on this machine, or its options are wrong.
      MissingExtraError: a package is not installed.
    """
    own = dict(section)
    cls = registry.find("embedders", own.pop("name"), key=f"--set {SPACES}: {name}.name")
    if not registry.fits(cls, "image") or cls.remote:
        allowed = ", ".join(registry.names_for("embedders", "image"))
        raise InputError(f"{section['name']!r} is no embedder of pictures on this machine (allowed: {allowed})")
    try:
        options = cls.Options.model_validate(own)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(cls.Options.model_fields)
        raise InputError(f"{where}: {first['msg']} (options of {section['name']}: {known})") from None
    embedder: Embedder = cls(options)
    return embedder


def _told(name: str, error: PeBeamError) -> str:
    said = str(error).removeprefix("embedder: ").removeprefix("embedder.")
    return said if said.startswith("--set") else f"--set {name.replace('_', '-') if _is_short(name) else name}: {said}"


def _is_short(name: str) -> bool:
    return name.replace("_", "-") in _SHORT


def network_shape(options: Mapping[str, str]) -> tuple[int, int, int] | None:
    """Returns depth, width and epochs of the wide residual network; None: it is not wanted. Raises InputError."""
    value, epochs = options.get(WRN), options.get(WRN_EPOCHS, "50")
    if value is None:
        if WRN_EPOCHS in options:
            raise InputError(f"--set {WRN_EPOCHS}: it goes with --set {WRN}=yes or DEPTH-WIDTH")
        return None
    found = re.fullmatch(r"(\d{2,3})-(\d{1,2})", "28-10" if value == "yes" else value)
    depth, width = (int(part) for part in found.groups()) if found else (0, 0)
    if depth < 10 or depth % 6 != 4 or width < 1:
        raise InputError(
            f"--set {WRN}={value}: yes, or DEPTH-WIDTH is wanted, depth 10, 16, 22, 28, ... and width 1 up"
        )
    if not epochs.isdecimal() or not 1 <= int(epochs) <= 1000:
        raise InputError(f"--set {WRN_EPOCHS}={epochs}: 1 to 1000 is wanted")
    return depth, width, int(epochs)
