"""Shared set-up: a small recipe and a fixed secret for runs that have to be repeatable."""

from __future__ import annotations

import collections
import copy
import gc
import hashlib
import os
import shutil
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import forks
from tests.whole_runs import SECRET, SMALL, UNREPORTED, Runs

# One thread a worker of the tests, for several workers share two cores; and where a library asks for more, threads that
# wait for each other sleep. They would spin in each other's way: MiniLM takes five times as long.
# OpenMP reads it once, when the first library loads it; processes that a test starts have it too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")


# How long an example takes says how busy the machine is. Examples are the same each time: a new one that fails would
# stop whoever changes something else. `pytest --hypothesis-profile=search` looks for new ones.
_QUIET = (HealthCheck.too_slow, HealthCheck.filter_too_much)
settings.register_profile("search", deadline=None, suppress_health_check=_QUIET)
settings.register_profile("suite", settings.get_profile("search"), derandomize=True)
settings.load_profile("suite")

# A look for garbage goes through all modules that are imported, which takes seconds: there is none while tests are
# collected, and what is there by then is left out of later looks.
gc.disable()


def pytest_collection_finish() -> None:
    """The tests begin."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Modules are taken apart at the end of the process, as without us: some complain of what is not."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """See `Runs`."""
    made = Runs(tmp_path_factory.mktemp("runs"))
    yield made
    made.check()


@pytest.fixture
def small() -> dict[str, Any]:
    """A recipe on real digits that runs in seconds, as plain data that a test may change."""
    return copy.deepcopy(SMALL)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, one for all tests of a process; where it is missing, they are skipped and it is said."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # 5 s otherwise: a busy machine may take longer to draw a page
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"Pages were NOT tested in a browser: none of {', '.join(names)} is on PATH")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """32 bytes that make a run repeatable."""
    path = tmp_path / "given.secret"
    path.write_bytes(SECRET)
    return path


LONG = (
    "flink",
    "dataflow",
    "benchmarks",
    "text-offline",
    "tests/driver/test_end_to_end.py",
    "tests/report/test_browser.py",
    "tests/test_wheel.py",
    "tests/modalities/tabular/test_runs.py",
    "tests/test_site.py",
    "tests/test_notebooks.py",
    "tests/voting/search/test_torch.py",
    "tests/storage/test_objects.py",
    "kafka",
    "tests/streams/test_kills.py",
    "tests/streams/test_loop.py",
    "tests/test_console.py",
    "tests/custody/test_keeping.py",
    "tests/driver/test_attacks.py",
    "tests/report/test_report.py",
    "tests/evaluation/test_evaluate.py",
    "tests/evaluation/test_again.py",
    "tests/modalities/image/diffusion/test_generator.py",
    "published-tables",
    "emoji",
    "tests/modalities/test_own_parts.py",
    "tests/launch/test_docs.py",
    "tests/modalities/text/test_calls.py",
    "tests/modalities/text/test_workers.py",
    "tests/driver/test_never_stop.py",
    "tests/modalities/text/test_kills.py",
    "tests/modalities/text/test_shipped_recipes.py",
    "tests/storage/test_services_on_objects.py",
    "tests/engine/test_makers.py",
    "tests/storage/test_kills_on_objects.py",
    "tests/engine/test_parts.py",
    "tests/voting/search/test_kernel.py",
    "tests/driver/test_tampering.py",
    "tests/driver/test_bad_days.py",
)
"""Groups of tests that take long, the longest first. A module without a group is one: what its fixtures make, they make
once. Wants `--dist loadgroup --no-loadscope-reorder`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long groups begin first: one that begins last leaves the other workers with nothing to do."""

    def place(item: pytest.Item) -> int:
        group = item.get_closest_marker("xdist_group")
        assert group is not None
        return LONG.index(group.args[0]) if group.args[0] in LONG else len(LONG)

    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says aloud which runners were left out: a skip is easily overlooked."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        if "NOT tested" in reason:
            terminalreporter.write_sep("=", reason.removeprefix("Skipped: "), yellow=True, bold=True)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pythons that the code starts itself are forks (tests/forks.py)."""
    monkeypatch.setattr(sys, "executable", str(forks.python()))


@pytest.fixture(autouse=True)
def _unreported(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports and pages of evaluations that nobody reads are not drawn: it takes a third of a small run, and two thirds
    of a small evaluation. Tests marked `reported` have them.

    In this process alone: what a test compares with the release of another process has to be marked.
    """
    if request.node.get_closest_marker("reported") is None:
        monkeypatch.setattr("pe_beam.driver.finalize.report_bytes", lambda *_, **__: UNREPORTED)
        monkeypatch.setattr("pe_beam.evaluation.outcome.evaluation_page", lambda *_, **__: UNREPORTED)


@pytest.fixture(autouse=True)
def _services_end() -> Iterator[None]:
    """What a test has asked of services outside a run does not stay open: it would add up to a thousand sockets."""
    yield
    if (pool := sys.modules.get("pe_beam.services.pool")) is not None:
        pool.close_dispatchers()


@pytest.fixture(scope="session", autouse=True)
def _secrets_follow_from_tests() -> Iterator[None]:
    """The secret that a run of this process draws follows from the test and from how many it has drawn.

    So its noise is the same each time, and what holds but for a small chance holds always.
    """
    from pe_beam.custody import keeping
    from pe_beam.privacy import secret
    from pe_beam.streams import registry

    drawn = collections.Counter[str]()

    def draw(size: int) -> bytes:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        drawn[test] += 1
        return hashlib.shake_256(f"{test} {drawn[test]}".encode()).digest(size)

    with pytest.MonkeyPatch.context() as patch:
        for module in (keeping, secret, registry):
            patch.setattr(module, "os", types.SimpleNamespace(**{**vars(os), "urandom": draw}))
        yield


@pytest.fixture(scope="session", autouse=True)
def _digits_are_drawn_once() -> Iterator[None]:
    """Most runs here read the same handwritten digits: each becomes a PNG file once."""
    from pe_beam.sources import sklearn_sets

    encode, drawn = sklearn_sets.encode_png, dict[tuple[Any, ...], bytes]()

    def encode_once(image: Any) -> bytes:
        key = (image.shape, image.dtype.str, image.tobytes())
        if key not in drawn:
            drawn[key] = encode(image)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn_sets, "encode_png", encode_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _beam_looks_once() -> Iterator[None]:
    """Beam inspects each method of a DoFn, and parses all of its flags, some hundred times a graph: here once each.

    What it finds is the same every time. It is more than half of the time of a small run.
    """
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms import core, ptransform, userstate, util
    from apache_beam.typehints import decorators

    inspect, view_as, sign = userstate.get_dofn_specs, PipelineOptions.view_as, decorators.get_signature
    specs: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
    signatures: weakref.WeakKeyDictionary[Any, dict[bool, Any]] = weakref.WeakKeyDictionary()
    views: dict[tuple[int, type], tuple[weakref.ref[Any], Any]] = {}

    def inspect_once(dofn: Any) -> Any:
        # Of Beam's own wrappers each has the parameters of its function, so they are told apart.
        key = dofn if type(dofn).__module__.startswith("apache_beam.") else type(dofn)
        if key not in specs:
            specs[key] = inspect(dofn)
        return specs[key]

    def view_once(options: Any, kind: type) -> Any:
        of, view = views.get((id(options), kind), (None, None))
        if of is None or of() is not options:
            view = view_as(options, kind)
            views[id(options), kind] = weakref.ref(options), view
        return view

    def sign_once(function: Any) -> Any:
        own = getattr(function, "__func__", function)
        if not isinstance(own, types.FunctionType):
            return sign(function)
        known, bound = signatures.setdefault(own, {}), own is not function
        if bound not in known:
            known[bound] = sign(function)
        return known[bound]

    with pytest.MonkeyPatch.context() as patch:
        for module in (core, decorators, ptransform, util):
            patch.setattr(module, "get_signature", sign_once)
        patch.setattr(userstate, "get_dofn_specs", inspect_once)
        patch.setattr(PipelineOptions, "view_as", view_once)
        yield
