"""The command line `pe-beam`: prints one clear message for an error, and returns the exit status that DESIGN states."""

from __future__ import annotations

import argparse
import errno
import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import pe_beam
from pe_beam import console
from pe_beam.cli.asking import add_init
from pe_beam.cli.book import add_book, place_of
from pe_beam.cli.planning import cost_lines, plan_recipe
from pe_beam.cli.telling import stream_of, tell_privacy, tell_status
from pe_beam.cli.terminal import fitting, print_json
from pe_beam.errors import InputError, PeBeamError

_FULL = "no space is left on a disk, that of the output or of temporary files (TMPDIR); free some and run it again"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status (0 done, 1 failed, 2 wrong input, 130 interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    resumes = next((word for word in arguments if not word.startswith("-")), "") in ("run", "stream", "evaluate")
    line = "pe-beam: interrupted" + ("; the same command goes on from here" if resumes else "")
    if argv is None:
        console.begin(line)
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        return console.leave(line)


def _main(arguments: list[str]) -> int:
    beam_args: list[str] = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, beam_args = arguments[:cut], arguments[cut + 1 :]
    options = command_line().parse_args(arguments)
    options.beam_args = beam_args
    try:
        options.command(options)
        print(end="", flush=True)  # now: what fails when Python ends has a status and a message of its own
    except PeBeamError as error:
        if console.asked():
            raise KeyboardInterrupt from None
        print(f"pe-beam: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        console.give_up_output()
        return 1
    except Exception as error:
        if console.asked():  # Ctrl-C during an import may appear as any error
            raise KeyboardInterrupt from None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            console.give_up_output()
            print(f"pe-beam: {_FULL}", file=sys.stderr)
            return 1
        # A trace may contain a value of a private record: only the error's type may be shown.
        told = "please report it, or mend it where it is in a part of your own (`pe-beam --debug` shows where)"
        print(f"pe-beam: internal error ({type(error).__name__}); {told}", file=sys.stderr)
        if options.debug:
            raise
        return 1
    return 0


class _Version(argparse.Action):
    """Looks the version up where it is asked for, because that takes time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"pe_beam {pe_beam.__version__}")
        parser.exit()


def command_line() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(prog="pe-beam", description="Private Evolution on Apache Beam")
    parser.add_argument("--debug", action="store_true", help="show traces (they may hold private values)")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of pe_beam")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Any, text: str, *, as_json: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        if as_json:
            command.add_argument("--json", action="store_true", help="print one JSON object")
        return command

    add_init(add("init", None, "asks a few questions, or takes flags, and writes a recipe for your own data"))
    plan = add("plan", plan_recipe, "what a recipe will spend and make; touches no data", as_json=True)
    preview = add("preview", _preview, "makes a handful of candidates, without private data", as_json=True)
    run = add("run", _run, "the whole evolution; run again, it resumes. Beam flags go after --")
    stream = add("stream", _stream, "closes, runs and publishes the windows that are due. Beam flags go after --")
    _take_recipes(plan, preview, run, stream)
    status = add("status", tell_status, "where a run stands", as_json=True)
    status.add_argument("dir", metavar="DIR", help="of a run or a stream")
    watch = add("watch", _watch, "a page on this machine that follows a run or a stream, also before it begins")
    watch.add_argument("dir", metavar="DIR", help="of a run or a stream")
    watch.add_argument("--port", type=int, default=0, metavar="N", help="of 127.0.0.1; default: any that is free")
    watch.add_argument("--open", action="store_true", help="open it in a browser")
    privacy = add("privacy", tell_privacy, "the privacy statement and the ledger", as_json=True)
    privacy.add_argument("dir", metavar="DIR", nargs="+", help="of a stream, or of runs on the same data")
    report = add("report", _report, "the report as one HTML file, from the release alone")
    report.add_argument("dir", metavar="DIR", help="of a run or a stream")
    export = "the samples as .parquet, .csv, .jsonl or a folder (images, several tables), or what --as says"
    _take_form(add("export", _export, export))
    _take_measures(add("evaluate", _evaluate, "quality against real data; NOT a release", as_json=True))
    add_book(add("book", None, "a budget over runs: open, show, check, return"))
    purge = add("purge", _purge, "deletes private/ and work/, keeps the release and the ledger")
    purge.add_argument("dir", metavar="DIR", help="of a run")
    return parser


def _take_recipes(
    plan: argparse.ArgumentParser,
    preview: argparse.ArgumentParser,
    run: argparse.ArgumentParser,
    stream: argparse.ArgumentParser,
) -> None:
    """Adds the arguments of the commands that read a recipe."""
    for command in (plan, preview, run, stream):
        command.add_argument("recipe", metavar="RECIPE", help="the name of a shipped recipe, or a file")
        command.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a key")
    preview.add_argument("--count", type=int, default=8, metavar="N", help="how many, 1 to 64; default 8")
    preview.add_argument("--html", metavar="FILE", help="also write a page that shows them; a file there is replaced")
    plan.add_argument("--html", metavar="FILE", help="also write a page with the chart; a file there is replaced")
    run.add_argument("--run-dir", required=True, metavar="DIR", help="where the run lies; a new one is made")
    run.add_argument("--secret-file", metavar="F", help="32 raw bytes to use as the secret (for tests)")
    run.add_argument("--unroll", action="store_true", help="one Beam job for all iterations; the same release")
    stream.add_argument("--stream-dir", required=True, metavar="DIR", help="where it lies; a new one is made")
    for command in (run, stream):
        command.add_argument(
            "--book", metavar="BOOK", help="the budget book that it enters; privacy.book of the recipe"
        )
    stream.add_argument("--once", action="store_true", help="do what is due now and leave; else go on")


def _take_form(export: argparse.ArgumentParser) -> None:
    """Adds the arguments of `export`."""
    export.add_argument("dir", metavar="DIR", help="of a run or a stream; with --as also a release")
    export.add_argument("--to", required=True, metavar="PATH", help="what to write; its ending says the format")
    export.add_argument("--iteration", type=int, metavar="N", help="its population, 0 to T; default: the samples")
    export.add_argument(
        "--as",
        dest="form",
        metavar="FORM",
        help="huggingface: a dataset folder with a data card; registry: a draft for OpenDP's registry (.yaml); "
        "checklist: the topics of NIST SP 800-226 (.md); histograms: noisy votes (.csv)",
    )
    export.add_argument("--all", action="store_true", help="the whole release, to a new folder, without times")


def _take_measures(evaluate: argparse.ArgumentParser) -> None:
    """Adds the arguments of `evaluate`."""
    evaluate.add_argument("dir", metavar="DIR", help="of a run")
    evaluate.add_argument("--against", metavar="PATH", help="real data; default: the recipe's data.holdout")
    evaluate.add_argument("--iterations", default="last", choices=("last", "all"), help="populations to measure")
    evaluate.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of its metrics; a wrong NAME lists those there are",
    )
    evaluate.add_argument(
        "--metric-rows", type=int, metavar="N", help="records of a kind that those metrics see at most; default: 10000"
    )


def _preview(options: argparse.Namespace) -> None:
    from pe_beam.cli.previewing import lines_of
    from pe_beam.driver.html_file import demand_writable, write_html
    from pe_beam.driver.preview import make_preview
    from pe_beam.driver.preview_page import page_of
    from pe_beam.recipe.loading import load_recipe
    from pe_beam.recipe.parts import find_modality
    from pe_beam.report.plain import view_of
    from pe_beam.services.waiting import heard_by

    recipe = load_recipe(options.recipe, options.set)
    if options.html is not None:
        demand_writable(options.html)
    with heard_by(lambda line: print(line, file=sys.stderr)):
        preview, modality = make_preview(recipe, options.count), find_modality(recipe)
    if options.html is not None:
        write_html(options.html, page_of(preview, modality))
    if options.json:
        print_json(preview.to_json())
        return
    for line in lines_of(preview, view_of(modality)):
        print(fitting(line, sys.stdout.encoding))
    if preview.costs is not None:
        for line in cost_lines(preview.costs):
            print(line)
    if options.html is not None:
        print(f"page: {options.html}")


def _run(options: argparse.Namespace) -> None:
    from pe_beam.contracts.store import Folder
    from pe_beam.driver.loop import evolve
    from pe_beam.recipe.loading import load_recipe

    recipe = load_recipe(options.recipe, _with_book(options))
    run = evolve(
        recipe,
        options.run_dir,
        options.beam_args,
        secret_file=options.secret_file,
        progress=sys.stderr,
        unroll=options.unroll,
    )
    release = Folder(run.store, run.layout.release)
    print(f"report             {release}/report.html")
    print(f"samples            {release}/samples.parquet")
    if release.exists("samples.png"):
        print(f"picture            {release}/samples.png")
    print(f"privacy statement  {release}/privacy.json")


def _with_book(options: argparse.Namespace) -> list[str]:
    """Returns the changes of a recipe, that of `--book` among them. Its path starts at the working directory."""
    return [*options.set, *([] if options.book is None else [f"privacy.book={json.dumps(place_of(options.book))}"])]


def _stream(options: argparse.Namespace) -> None:
    from pe_beam.recipe.loading import load_recipe
    from pe_beam.streams.loop import Surroundings, stream

    recipe = load_recipe(options.recipe, _with_book(options))
    around = Surroundings(beam_options=options.beam_args, progress=sys.stderr)
    store = stream(recipe, options.stream_dir, once=options.once, around=around)
    print(f"promise            {store.at('stream.json')}")
    if store.exists("report.html"):
        print(f"report             {store.at('report.html')}")
    print(f"published windows  {store.at('published')}")


def _watch(options: argparse.Namespace) -> None:
    import contextlib
    import threading

    from pe_beam.watch.opening import opened
    from pe_beam.watch.server import serving

    with serving(options.dir, port=options.port) as served, contextlib.ExitStack() as until:
        print(f"page  {served.url}", flush=True)
        print("for you alone: its address is its key. Ctrl-C ends it; the run is not touched", flush=True)
        if served.site.state()["kind"] == "waiting":
            print(f"nothing is in {options.dir} yet; the page shows the run when it begins", flush=True)
        if options.open and not until.enter_context(opened(served.url)):
            print("no browser was found; open the address in one", file=sys.stderr)
        threading.Event().wait()


def _report(options: argparse.Namespace) -> None:
    from pe_beam.driver.reporting import report
    from pe_beam.streams.report import report as stream_report

    stream = stream_of(options.dir)
    print(report(options.dir) if stream is None else stream_report(stream))


def _export(options: argparse.Namespace) -> None:
    from pe_beam.driver.export import export, export_as, export_release

    stream, promise = stream_of(options.dir), None
    if stream is not None:
        from pe_beam.streams.status import newest_published, privacy

        options.dir, promise = newest_published(stream), privacy(stream)
    if options.all and options.iteration is not None:
        raise InputError("--iteration: not with --all, which copies every iteration; one of them is wanted")
    if options.all and options.form is not None:
        raise InputError("--as: not with --all, which copies the release as it is; one of them is wanted")
    if options.form is not None:
        export_as(options.dir, options.to, options.form, iteration=options.iteration, promise=promise)
        print(f"{options.form} written to {options.to}")
        return
    if options.all:
        export_release(options.dir, options.to)
        print(f"release written to {options.to}")
        return
    made = export(options.dir, options.to, iteration=options.iteration)
    print(f"samples written to {options.to if len(made) == 1 else ', '.join(map(str, made))}")


def _evaluate(options: argparse.Namespace) -> None:
    from pe_beam.evaluation.evaluate import evaluate
    from pe_beam.evaluation.setting import PAGE
    from pe_beam.evaluation.table import text_table

    if stream_of(options.dir) is not None:
        raise InputError(f"{options.dir}: the directory of a stream; that of a window is wanted, windows/START in it")
    told = dict(_pair(text) for text in options.set)
    found = evaluate(
        options.dir,
        options.beam_args,
        against=options.against,
        iterations=options.iterations,
        options=told,
        metric_rows=options.metric_rows,
        progress=sys.stderr,
    )
    if options.json:
        print_json(found)
        return
    print(text_table(found))
    print(f"page  {options.dir.rstrip('/')}/{PAGE}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"--set {text}: NAME=VALUE is wanted")
    return name, value


def _purge(options: argparse.Namespace) -> None:
    from pe_beam.driver.finalize import is_complete
    from pe_beam.driver.purge import purge
    from pe_beam.driver.returning import holds_budget
    from pe_beam.engine.run import open_run

    kept = purge(options.dir)
    print(f"deleted private/ and work/ in {options.dir}; the release and the ledger stay")
    if not is_complete(open_run(options.dir)):
        print("it was not complete, and without its secret it cannot go on; a new run directory spends anew")
    if holds_budget(options.dir):
        print(f"what it did not spend is still reserved in its book: pe-beam book return {shlex.quote(options.dir)}")
    if kept is not None:
        print(f"{kept}: what was deleted lives on in the bucket until that is changed")


if __name__ == "__main__":
    sys.exit(main())
