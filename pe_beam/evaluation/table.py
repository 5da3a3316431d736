"""Formats an evaluation as text for the data holder's terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pe_beam.evaluation.figures import shown


def text_table(outcome: Mapping[str, Any]) -> str:
    """Returns figures, floor, ceiling and memorisation check as text. `outcome` is the content of evaluation.json."""
    lines = ["NOT A RELEASE: these figures are computed from real records and are for the holder's eyes only", ""]
    columns = (outcome["floor"]["metrics"], outcome["metrics"], outcome["ceiling"]["metrics"])
    lines.append(f"{'':<32} {'floor':>10} {'samples':>10} {'ceiling':>10}")
    for key in dict.fromkeys([*columns[1], *columns[2]]):
        cells = [shown(column[key]) if key in column else "-" for column in columns]
        lines.append(f"{key.replace('_', ' '):<32} {cells[0]:>10} {cells[1]:>10} {cells[2]:>10}")
    lines += ["", f"floor    {outcome['floor']['from']}", f"ceiling  {outcome['ceiling']['from']}"]
    found = outcome["memorisation"]
    if "left_out" not in found:
        lines += [
            "",
            "nearest training record          held-out    samples",
            *(
                f"distance, {share:<22.0%} {shown(real):>8} {shown(made):>10}"
                for share, made, real in found["quantiles"]
            ),
            f"{'exact duplicates':<32} {found['held_out_exact_duplicates']:>8} {found['exact_duplicates']:>10}",
            f"a sample is closer than a held-out record with probability {found['probability_closer']:.3f}",
        ]
    return "\n".join([*lines, *(f"note: {note}" for note in outcome["notes"])])
