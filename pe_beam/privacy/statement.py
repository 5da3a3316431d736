"""Writes the privacy guarantee in plain words, and adds up the budgets of several runs on the same data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from pe_beam.errors import InputError, RecipeError
from pe_beam.privacy.accounting import spent_epsilon
from pe_beam.privacy.subsampled import Spending

_RELATION = {
    "add-or-remove-one": "one {unit} more or fewer",
    "replace-one": "one {unit} exchanged for another",
}
_STOPS = {
    False: "Whether the run stopped on its way, and why, is an output that this does not cover.",
    True: "No record can stop the run (data.never_stop); what a damaged file as a whole, a lost machine or the time it "
    "takes may tell is not covered.",
}
_VECTORS = {
    False: "That the vector of a record follows from it alone is an assumption about the embedder.",
    True: "That the vector of a record follows from it alone was checked on made-up records wherever private ones "
    "were embedded, which is evidence and not proof.",
}
_UNIT = {"record": "one record is", "client": "all the records of one client are"}


def compose_runs(runs: Sequence[tuple[str, str, float, Sequence[float | Spending]]]) -> tuple[float, float]:
    """Returns epsilon and delta of several runs on the same data: the 1/z^2 add up, and delta is the largest one.

    One run on samples counts as such. Several count as if all units had voted: a later run may have been chosen after
    an earlier one, and only for Gaussian mechanisms does the sum hold then.

    Args:
      runs: (unit, adjacency, delta, what was spent, as for `spent_epsilon`) of each run.

    Returns:
      Epsilon (0 if nothing was spent, inf if one round had no noise) and delta.

    Raises:
      InputError: there are no runs, or their units or neighbouring relations differ, so that they cannot be added.
      RecipeError: a delta or multiplier is out of its range.
    """
    if not runs:
        raise InputError("privacy: one run or more is wanted")
    for position, name in ((0, "unit"), (1, "adjacency")):
        values = sorted({str(run[position]) for run in runs})
        if len(values) > 1:
            raise InputError(f"privacy: runs of different {name} cannot be added up ({', '.join(values)})")
    for run in runs:
        if not 0 < run[2] < 1:
            raise RecipeError(f"privacy.delta: {run[2]!r} is not allowed; above 0 and below 1 is wanted")
    delta = max(run[2] for run in runs)
    spent = [each if isinstance(each, Spending) else Spending(each) for run in runs for each in run[3]]
    if len(runs) > 1:
        spent = [Spending(each.noise_multiplier) for each in spent]
    return spent_epsilon(spent, delta), delta


def statement(
    *,
    epsilon: float,
    delta: float,
    adjacency: str,
    unit: str,
    iterations: int,
    supplied_secret: bool = False,
    bought: str | None = None,
    never_stop: bool = False,
    vectors_checked: bool = False,
    sampling: str | None = None,
    started: str = "",
    tainted: bool = False,
) -> str:
    """Returns the privacy statement of a release as one paragraph.

    Args:
      epsilon: the spent epsilon, 0 or more; for inf the statement says NOT PRIVATE. Shown with 6 digits, rounded up.
      delta: the declared delta.
      adjacency: the neighbouring relation, "add-or-remove-one" or "replace-one".
      unit: the privacy unit, "record" or "client".
      iterations: number of noisy histograms that were released.
      supplied_secret: whether the user supplied the secret, instead of the operating system.
      never_stop: whether no record could stop the run (`data.never_stop`).
      vectors_checked: whether the embedder was checked on made-up records in the processes that embedded private ones.
      sampling: what `sampling_words` says of units that do not vote in each iteration, or None.
      bought: the initial measurement ("label counts", "one-way counts of columns"), or None.
      started: what `started_words` says of the release that the run starts from.
      tainted: whether that release is NOT PRIVATE, or its cost not known; epsilon is then inf, noise or not.

    Raises:
      RecipeError: the unit or neighbouring relation is unknown, or epsilon is negative or NaN.
    """
    if unit not in _UNIT or adjacency not in _RELATION:
        raise RecipeError(f"privacy: unit {unit!r} with adjacency {adjacency!r} is not known")
    if not epsilon >= 0:
        raise RecipeError(f"epsilon: {epsilon!r} is not allowed; 0 or more is wanted")
    if epsilon == math.inf and tainted:
        return (
            "NOT PRIVATE. The run starts from a release that is NOT PRIVATE, or whose cost is not known: what that one "
            "reveals of the data behind it this one may reveal, and it must be treated as those data themselves."
        )
    if epsilon == math.inf:
        return (
            "NOT PRIVATE. No noise was added (epsilon = inf): the samples may reveal any private record and "
            "must be treated as the private data themselves."
        )
    histograms = "its one noisy histogram" if iterations == 1 else f"all of its {iterations} noisy histograms together"
    histograms += f" and the noisy {bought} that were bought before them" if bought else ""
    given = (
        " The secret was supplied by the user: the guarantee holds only if it is random, unknown to others and used "
        "for nothing else."
    )
    return (
        f"The release is ({rounded_up(epsilon)}, {delta!r})-differentially private for "
        f"{_RELATION[adjacency].format(unit=unit)} in the private data ({adjacency}; unit: {unit}, so {_UNIT[unit]} "
        f"protected), over {histograms}.{sampling or ''}{started} "
        "The noise is Gaussian, exactly rounded, from a keyed cryptographic "
        "stream: the guarantee is computational, and it covers one release per secret, as long as the secret stays "
        f"secret.{given if supplied_secret else ''} Runs on the same data add up, and publishing the best of several "
        f"spends them all. {_STOPS[never_stop]} {_VECTORS[vectors_checked]} What the generator or the embedder was "
        "trained on is not covered, nor are recipe, labels and delta, which are declared in public."
    )


def stream_statement(
    *, epsilon: float, delta: float, adjacency: str, unit: str, windows: int, started: str = ""
) -> str:
    """Returns the privacy statement of a stream as one paragraph (DESIGN, privacy rule 16).

    Args:
      epsilon: of all windows that one unit can be in, 0 or more; for inf the statement says NOT PRIVATE.
      delta: the declared delta.
      adjacency: the neighbouring relation.
      unit: the privacy unit, "record" or "client".
      windows: in how many a record, or a client's records, vote.
      started: what `started_words` says of the release that the first window starts from.
    """
    if epsilon == math.inf:
        return "NOT PRIVATE. No noise is added (epsilon = inf): the samples of a window may reveal any of its records."
    many = "one window" if windows == 1 else f"at most {windows} windows"
    whose = f"The records of a client vote in {many}, its first"
    once = "exactly one window" if windows == 1 else f"at most {windows} windows, which slide"
    who = f"Each record votes in {once}" if unit == "record" else whose
    return (
        f"All releases of this stream together are ({rounded_up(epsilon)}, {delta!r})-differentially private for "
        f"{_RELATION[adjacency].format(unit=unit)} in the stream ({adjacency}; unit: {unit}, so {_UNIT[unit]} "
        f"protected), however many windows there will be. {who}, by a stamp that the source fixed, and the noise of "
        "each window is fixed beforehand. Two streams are neighbours if they hold the same records, at the same "
        "positions and with the same stamps, as functions of the releases so far, but for that one: that a record "
        "changes others only through releases is an assumption. Records may react to releases. The times of "
        "publication follow the public schedule; that a window is published late because its processing took too "
        "long is an output that this does not cover. A record that is sent twice is two records. Each window's own "
        f"statement says more, and holds for the window alone.{started}"
    )


def window_words(*, unit: str, windows: int) -> str:
    """Returns what the statement of a window says of the stream that it belongs to."""
    who = "a record votes in" if unit == "record" else "a client's records vote in"
    votes = f"{who} {'one' if windows == 1 else f'at most {windows}'} of them"
    return (
        f" The run is one window of a stream, and {votes}: what all windows together promise is in the stream's own "
        "statement (stream.json)."
    )


def sampling_words(rates: Sequence[float], unit: str) -> str | None:
    """Returns what the statement says of sampling rates of one run or several, or None if all units vote each time.

    >>> sampling_words([1], "record")
    """
    if all(rate == 1 for rate in rates):
        return None
    if len(rates) > 1:
        return " Runs are added up as if all units had voted in each iteration."
    return (
        f" In each iteration each {unit} votes with probability {rates[0]!r}, by coins from the same keyed stream; "
        "epsilon counts on nobody knowing who voted."
    )


def started_words(*, unit: str, public: bool, added: bool, apart: Sequence[Mapping[str, Any]], who: str = "run") -> str:
    """Returns what the statement says of the release that a run starts from.

    Args:
      unit: the run's privacy unit.
      public: whether the holder declares it public.
      added: whether its cost, or that of releases before it, is part of the statement's epsilon.
      apart: costs that are not: `data` ("shared" or "disjoint"), sets, unit, adjacency, epsilon and delta of each.
      who: what starts from it: the run, or the first window of a stream.

    >>> started_words(unit="record", public=True, added=False, apart=[])
    ' The run starts from a release that the holder declares public: what that tells of anyone is not counted.'
    """
    said = ""
    if public:
        said += (
            f" The {who} starts from a release that the holder declares public: what that tells of anyone is not "
            "counted."
        )
    if added:
        said += f" The {who} starts from an earlier release; what that and those before it have spent is counted in."
    for each in apart:
        cost = f"({rounded_up(float(each['epsilon']))}, {each['delta']!r})"
        whom = f"{_RELATION[each['adjacency']].format(unit=each['unit'])}"
        kind = f"{each['adjacency']}; unit: {each['unit']}"
        if each["data"] == "shared":
            said += (
                f" Earlier releases that the {who} starts from have spent {cost} for {whom} in the private data "
                f"({kind}): a promise of another kind, which is not added up with this one and holds beside it."
            )
        else:
            shared = "client" if "client" in (unit, each["unit"]) else "record"
            many = "other data" if each["sets"] == 1 else f"{each['sets']} sets of other data"
            said += (
                f" The {who} starts from an earlier release of {many}, which the holder declares to share no "
                f"{shared} with these: for {whom} in {'those' if each['sets'] == 1 else 'one of those'} ({kind}) "
                f"the promise is {cost}, and this {who} changes nothing of it."
            )
    return said


def rounded_up(value: float, digits: int = 6) -> str:
    """Returns the value with `digits` significant digits, rounded up: an epsilon that is shown must not be too small.

    >>> rounded_up(1.00401, 3), rounded_up(0.9999999)
    ('1.01', '1')
    """
    context = Context(prec=digits, rounding=ROUND_CEILING)
    return f"{float(context.create_decimal(Decimal(value))):.{digits}g}"
