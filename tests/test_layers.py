"""Who imports whom: each package holds to what its docstring says, and imports go in no circle, lazy ones included."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "pe_beam"
GROUND = {"errors", "numbers", "names", "wording", "keyed", "console", "registry", "kept", "subsamples", "shipped"}
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


@functools.cache
def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Modules of ours that a module imports anywhere, in functions and for types as well."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{module}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules() else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(name for name in found if name in modules() and name != module)


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def allowed(name: str) -> set[str]:
    text = " ".join((ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text())) or "").split())
    found = re.search(r"May import: ([^.;]*)[.;]", text)
    assert found, f"pe_beam/{name}: its docstring does not say what it may import"
    return {word.strip(" `") for word in found.group(1).split(",")}


def refuse_circles(left: dict[str, set[str]]) -> None:
    """Takes away what imports nothing that is left, again and again, until nothing is."""
    while left:
        lowest = [name for name, below in left.items() if not below & set(left)]
        assert lowest, f"a circle among {sorted(left)}"
        for name in lowest:
            del left[name]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_imports_what_its_docstring_says(name: str) -> None:
    may = allowed(name)
    if may == {"everything"}:
        return
    assert may <= {*PACKAGES, *GROUND}, "names something that is not there"
    wrong = {
        (module, other)
        for module in modules()
        if package(module) == name
        for other in imports(module)
        if package(other) not in (name, *may)
    }
    assert not wrong


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_ground_imports_the_ground_alone(name: str) -> None:
    assert {package(other) for other in imports(f"pe_beam.{name}")} <= GROUND


def test_packages_are_in_no_circle() -> None:
    every = set(PACKAGES)
    left = {name: allowed(name) & every for name in PACKAGES if allowed(name) != {"everything"}}
    refuse_circles(left)


def test_modules_are_in_no_circle() -> None:
    """A package's `__init__` stands for what it hands on, so it is left out: a module imports another directly."""
    left = {module: set(imports(module)) - {module} for module in modules() if modules()[module].name != "__init__.py"}
    left = {module: others & set(left) for module, others in left.items()}
    refuse_circles(left)


def test_nothing_below_imports_a_modality_or_a_source() -> None:
    above = {"filters", "modalities", "sources", "init", "cli"}
    wrong = {
        (module, other)
        for module in modules()
        if package(module) not in above
        for other in imports(module)
        if package(other) in ("modalities", "sources")
    }
    assert not wrong


@pytest.mark.parametrize(
    "name", ["contracts", "privacy", "voting", "selection", "storage", "recipe", "services", "report"]
)
def test_beam_stays_above(name: str) -> None:
    for module, path in modules().items():
        if package(module) == name:
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(each.split(".")[0] == "apache_beam" for each in names), module
