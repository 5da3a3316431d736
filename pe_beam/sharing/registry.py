"""An entry of OpenDP's registry of deployments, as a draft for the holder to complete.

The form is that of https://github.com/opendp/deployments-registry-data (`schemas/deployments-schema.yaml`, as it was in
2026: basic, dp_variant, privacy_loss, deployment_model, implementation, administrative). Who publishes, where, when and
what for is in no release: those fields say FILL IN.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from pe_beam.errors import InputError
from pe_beam.sharing.facts import SOURCE, Facts
from pe_beam.wording import counted

FILL_IN = "FILL IN"
_NO_DATE = "1900-01-01"  # what the registry's own template has in this place
_HEAD = """\
# A draft for https://registry.opendp.org, made from a release by pe-beam. Complete what says FILL IN, and besides:
# data_curator_type (Government, Industry or Nonprofit), publication_date (quoted, YYYY-MM-DD), data_product_sector if
# one fits (Technology, Healthcare, Education, Government, Energy, Finance). The file's name has a-z, 0-9 and _ alone.
"""


def entry(facts: Facts) -> str:
    """Returns the entry as YAML.

    Raises:
      InputError: the release has no promise, so there is nothing to register, or only that of one window of a stream.
    """
    if not facts.private:
        raise InputError(
            "--as registry: this run is NOT PRIVATE; the registry lists deployments of differential privacy"
        )
    if not facts.whole:
        raise InputError(
            "--as registry: this is one window of a stream; the stream's directory is wanted, for all of them"
        )
    parts = {
        "basic": _basic(facts),
        "dp_variant": _variant(facts),
        "privacy_loss": _loss(facts),
        "deployment_model": _model(facts),
        "implementation": _implementation(facts),
        "administrative": _administrative(),
    }
    slug = re.sub(r"[^a-z0-9]+", "-", facts.name.lower()).strip("-") or "release"
    told = {"url_slug": slug, "deployment": parts}
    return _HEAD + yaml.dump(told, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as literal blocks: the registry refuses folded ones, which hurt Markdown."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _items(*lines: str) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _basic(facts: Facts) -> dict[str, Any]:
    what = ", ".join(facts.columns)
    return {
        "name": facts.name,
        "data_curators": [{"data_curator_name": FILL_IN, "data_curator_type": "Industry"}],
        "description": f"Synthetic records ({facts.modality}; columns: {what}) made by Private Evolution: a "
        "public generator makes candidates, private records vote for the nearest ones, and noisy votes choose "
        "which are kept and varied.",
        "intended_use": FILL_IN,
        "data_product_type": "Synthetic data",
        "data_product_region": FILL_IN,
        "publication_date": _NO_DATE,
    }


def _variant(facts: Facts) -> dict[str, Any]:
    labels = f" with one of {len(facts.labels)} declared labels" if facts.labels else ""
    return {
        "variant_name": "Approximate DP",
        "data_domain": f"Finite sets of records of the modality {facts.modality}{labels}. Records that cannot be "
        "read, or are not as declared, abstain: each by itself.",
        "unprotected_quantities": _items(
            "The recipe: declared labels, bounds and categories, delta, the number of samples and iterations.",
            "What generator and embedder were trained on.",
            "Whether the run stopped on its way, unless the statement says that no record can stop it.",
        ),
    }


def _loss(facts: Facts) -> dict[str, Any]:
    privacy = facts.privacy
    rate = privacy["sampling_rate"]
    sampled = "" if rate == 1 else f" Each {privacy['unit']} votes in an iteration with probability {rate}."
    found: dict[str, Any] = {
        "privacy_unit": "Record-level" if privacy["unit"] == "record" else "User-level",
        "privacy_unit_details": f"{facts.neighbours}{sampled}",
    }
    if facts.expected_records is not None and privacy["unit"] == "record":  # a public guess, of records
        found["number_of_privacy_units"] = facts.expected_records
    found["privacy_parameters"] = {"epsilon": float(facts.epsilon), "delta": privacy["delta"]}
    found["privacy_parameters_details"] = privacy["statement"]
    return found


def _model(facts: Facts) -> dict[str, Any]:
    many = "Windows of a stream, by a public schedule. Epsilon and delta are those of all windows together."
    one = "One run. Other runs on the same data add up with it: FILL IN which are planned."
    return {
        "model_name": "Central",
        "trust_assumptions": _items(
            "The curator holds the private records, runs the workers, and is trusted with both, and with a secret "
            "that keys the noise and is deleted when the run ends, unless the recipe keeps it.",
            "Who reads the data product may know all other records and work together with anybody but the curator.",
            "Services that generate or embed: FILL IN who receives candidates, and whether one receives records.",
        ),
        "release_type": "Many releases" if facts.in_stream else "One release",
        "release_type_details": many if facts.in_stream else one,
        "data_source_type": "Dynamic" if facts.in_stream else "Static",
        "access_type": "Non-interactive",
    }


def _implementation(facts: Facts) -> dict[str, Any]:
    privacy = facts.privacy
    measured = "" if facts.measured is None else f" Before the first iteration, noisy {facts.measured}."
    noise = ", ".join(f"{z:.6g}" for z in privacy["noise_multiplier"])
    each = f"each of {counted(privacy['iterations'], 'iteration')}"
    return {
        "preprocessing_and_hyperparameter_tuning": "pe-beam fixes noise, labels, bounds and delta before private "
        "records are read. FILL IN what was done to the records before that, and which runs on them came before "
        "this one.",
        "mechanisms": _items(
            f"{privacy['mechanism']}, once in {each}, on the votes of records for candidates. Sigma over sensitivity: "
            f"{noise}.{measured}",
            "pe_beam on Apache Beam. Votes are whole numbers of bounded norm, and the sampler rounds an exactly "
            "distributed normal variable, so that no floating-point number is added to a count.",
            "A retry, a resume or a lost worker never draws noise twice: counts are committed once, and the noise "
            "is keyed by a secret and by all counts.",
            "Nobody can query the private records; the times of private stages are not released.",
        ),
        "composition": f"{privacy['accountant']}. Over all noisy histograms, and over earlier releases that the "
        "statement counts in.",
        "post_processing": "Choice, variation and report are made from noisy votes and synthetic candidates alone."
        + (f" Candidates had to pass filters: {', '.join(facts.filters)}." if facts.filters else ""),
        "justification": FILL_IN,
        "utility": FILL_IN,
        "additional_information": f"Generator: {', '.join(facts.generators)}. Embedder: {facts.embedder}.",
    }


def _administrative() -> dict[str, Any]:
    paper = {"title": "Differentially Private Synthetic Data via Foundation Model APIs 1: Images", "url": SOURCE}
    method = {"evidence_source_type": "Peer-reviewed publication", "article": paper}
    return {
        "evidence_sources": {"method": method},
        "status": "Draft",
        "registry_authors": [FILL_IN],
        "tier": 2,
    }
