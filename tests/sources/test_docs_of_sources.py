"""What docs/sources.md says can be said: recipes, and the two exports of BigQuery."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from pe_beam.contracts.landed import slot_of
from pe_beam.recipe.loading import parse_recipe
from pipelines import land

PAGE = (Path(__file__).parents[2] / "docs/sources.md").read_text(encoding="utf-8")
TEXT: dict[str, Any] = {
    "name": "x",
    "modality": "text",
    "generator": {"name": "llm", "backend": "huggingface", "model": "", "random": {"user": "x"}, "vary": {"user": "x"}},
    "embedder": {"name": "hashed-words"},
    "evolution": {"iterations": 1, "samples": 10},
    "privacy": {"epsilon": 1, "delta": 1e-5},
}
# Options of EXPORT DATA and flags of bq extract, as their references list them.
OPTIONS = {"uri", "format", "overwrite", "compression", "header", "field_delimiter", "use_avro_logical_types"}
FLAGS = {"compression", "destination_format", "field_delimiter", "print_header", "use_avro_logical_types", "location"}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_example_is_a_recipe() -> None:
    found = [yaml.safe_load(block) for block in blocks("yaml")]
    assert {block["data"]["source"] for block in found} == {"parquet", "delta", "iceberg", "kafka", "landed", "python"}
    for block in found:
        assert parse_recipe({**TEXT, **block}).data.path == block["data"]["path"]


def test_exports_write_what_the_recipe_reads() -> None:
    (sql,) = blocks("sql")
    found = re.fullmatch(
        r"EXPORT DATA OPTIONS \((.*?)\) AS\s+SELECT (.*?) FROM \S+ FOR SYSTEM_TIME AS OF .*;\s*", sql, re.DOTALL
    )
    assert found
    options = dict(re.findall(r"(\w+) = '?([^',]+)'?", found[1]))
    assert set(options) <= OPTIONS and options["format"] == "PARQUET"
    shell = next(block for block in blocks("sh") if block.startswith("bq"))
    program, command, *more = shlex.split(shell)
    flags = dict(each[2:].split("=") for each in more if each.startswith("--"))
    table, uri = (each for each in more if not each.startswith("--"))
    assert (program, command) == ("bq", "extract") and set(flags) <= FLAGS and flags["destination_format"] == "PARQUET"
    paths = [yaml.safe_load(block)["data"]["path"] for block in blocks("yaml")]
    assert options["uri"] == uri and uri in paths and uri.count("*") == 1 and table == "support.tickets"


def test_the_job_that_lands_messages_takes_the_flags_and_windows_are_whole_slots() -> None:
    shell = next(block for block in blocks("sh") if "pipelines.land" in block)
    options, beam_args = land.PROGRAM.parser().parse_known_args(shlex.split(shell.replace("\\\n", " "))[3:])
    assert all(flag.startswith("--") for flag in beam_args)
    found = next(yaml.safe_load(block) for block in blocks("yaml") if "source: landed" in block)
    assert found["data"]["path"] == options.to
    window = parse_recipe({**TEXT, **found}).stream.window
    assert slot_of(window.span(0).start, options.slot).start == window.span(0).start
