"""Answers to the topics of NIST SP 800-226, Guidelines for Evaluating Differential Privacy Guarantees, about a release.

The publication asks of a claim: which parameters and which unit, what algorithm, for whom it is useful and for whom
not, whom one has to trust, how the data are guarded, and how they were collected. Topics and answers are in our own
words. What a release cannot know is left to its holder, as a box that is not ticked (docs/nist-sp-800-226.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pe_beam.sharing.facts import Facts
from pe_beam.sharing.markdown import plain

PUBLICATION = "https://doi.org/10.6028/NIST.SP.800-226"


@dataclass(frozen=True)
class _Item:
    """A question, and what the release answers; None: the holder has to."""

    question: str
    answer: str | None = None


def checklist(facts: Facts) -> str:
    """Returns the answers as Markdown."""
    topics: Sequence[tuple[str, Sequence[_Item]]] = (
        ("Parameters", _parameters(facts)),
        ("Unit of privacy", _unit(facts)),
        ("Algorithm and correctness", _algorithm(facts)),
        ("Composition and other releases", _composition(facts)),
        ("Utility and bias", _UTILITY),
        ("Trust model", _trust(facts)),
        ("Side channels and implementation", _channels(facts)),
        ("Security and access control", _SECURITY),
        ("Data collection exposure", _COLLECTION),
    )
    head = (
        f"# {plain(facts.name)}: the topics of NIST SP 800-226\n\n"
        "Made by pe-beam from a release. A ticked box is answered by `privacy.json` and `recipe.json`, or holds for "
        "every run of pe-beam; an open one is for who holds the data. The publication: [NIST SP "
        f"800-226]({PUBLICATION}). This page is no statement of NIST's.\n"
    )
    if not facts.private:
        head += f"\n> **NOT PRIVATE.** {plain(facts.privacy['statement'])}\n"
    return head + "".join(f"\n## {topic}\n\n" + "".join(map(_line, items)) for topic, items in topics)


def _line(item: _Item) -> str:
    if item.answer is None:
        return f"- [ ] **{item.question}**\n"
    return f"- [x] **{item.question}** {item.answer}\n"


def _parameters(facts: Facts) -> list[_Item]:
    privacy = facts.privacy
    if not facts.private:
        return [_Item("Epsilon and delta?", "Infinite: nothing is promised.")]
    small = f"{privacy['delta']:g}, stated in the recipe before records are read."
    guess = (
        f"Who knows all other records and guesses, at even odds, whether one {privacy['unit']} took part, is right "
        f"at most {facts.best_guess} of the time."
    )
    return [
        _Item("Which variant?", "Approximate: (epsilon, delta)-differential privacy."),
        _Item("Epsilon?", f"{facts.epsilon}, over all that is released."),
        _Item("Delta?", small),
        _Item("What does that mean?", guess),
        _Item("Is delta well below one over the number of records, and epsilon one that you can defend?"),
        _Item("Why these values: who chose them, and weighing what?"),
    ]


def _unit(facts: Facts) -> list[_Item]:
    whose = {
        "record": "One record. A person with several records is protected for each of them, not for all together.",
        "client": "One client, with all its records. Records without a client's id are left out.",
    }[facts.privacy["unit"]]
    return [
        _Item("What is protected?", whose),
        _Item("Which data sets are neighbours?", f"{plain(facts.privacy['adjacency'])}. {facts.neighbours}"),
        _Item("Is a unit a person? If not, how many units may one person have?"),
        _Item("Do households or other groups need protection together?"),
    ]


def _algorithm(facts: Facts) -> list[_Item]:
    privacy = facts.privacy
    noise = ", ".join(f"{z:.4g}" for z in privacy["noise_multiplier"])
    votes = facts.recipe.get("evolution", {}).get("votes_per_record", 1)
    bound = (
        f"A record has {votes} vote(s)"
        if privacy["unit"] == "record"
        else "All of a client's votes are scaled to norm 1"
    )
    read = "Labels, bounds, categories and delta are declared. Noise is fixed before records are read."
    return [
        _Item("Which mechanism?", f"{plain(privacy['mechanism'])}, in {privacy['iterations']} iteration(s)."),
        _Item("How much noise?", f"Sigma over sensitivity, by iteration: {noise}."),
        _Item("What was measured before the first iteration?", f"{plain(facts.measured or 'nothing').capitalize()}."),
        _Item("How is one unit's contribution bounded?", f"{bound}; the bound follows from the recipe alone."),
        _Item("Is anything read off the data without noise?", read),
        _Item(
            "Synthetic data: what are they made from?",
            "From noisy votes and from a public generator. Choice, variation and report are post-processing.",
        ),
        _Item(
            "How is correctness tested?", "docs/privacy.md names, rule by rule, the code and the test that attacks it."
        ),
    ]


def _composition(facts: Facts) -> list[_Item]:
    privacy = facts.privacy
    apart = (privacy.get("start") or {}).get("apart") or []
    started = (
        "It starts from an earlier release; the statement says what of it is counted." if "start" in privacy else None
    )
    found = [_Item("How are the parts added up?", f"{plain(privacy['accountant'])}.")]
    found += [_Item("Does it build on another release?", started or "No.")]
    found += [_Item("Are other costs stated beside epsilon?", f"{len(apart)}: see the statement.")] if apart else []
    if facts.in_stream:
        one = "One window of a stream, and what is promised here is of this window alone: `stream.json` has the "
        "stream's."
        all_ = "A window of a stream; what is promised here is of all its windows together."
        found.append(_Item("Is it one of many?", all_ if facts.whole else one))
    return [
        *found,
        _Item("Which other releases of these data are there, with or without noise, and what do all cost together?"),
        _Item("Was this run chosen among several on the same data? All of them count."),
    ]


_UTILITY = [
    _Item("How was quality measured, and was the measurement kept private?"),
    _Item("How do small groups fare? Noise covers rare labels and categories first."),
    _Item("Which biases do the private records, the generator and the embedder bring along?"),
    _Item("Do users know that the records are synthetic, and what they may not conclude from them?"),
]


def _trust(facts: Facts) -> list[_Item]:
    central = (
        "Central: who runs the workers sees the private records. The runner's consoles, shuffle and temporary "
        "storage are inside the boundary of trust."
    )
    made_by, embedder = plain(", ".join(facts.generators)), plain(facts.embedder)
    makers = f"Generator {made_by}, embedder {embedder}: `recipe.json` has their public options."
    return [
        _Item("Which model?", central),
        _Item("Which parts touch candidates and records?", makers),
        _Item("Does a service outside receive candidates? It is then a recipient of the release."),
        _Item("Does a service outside embed the private records? It then sees them."),
        _Item("Were generator or embedder trained on these records? The promise does not cover that."),
    ]


_DRAWN = {True: "The user has supplied the secret.", False: "The operating system has drawn the secret."}


def _channels(facts: Facts) -> list[_Item]:
    return [
        _Item(
            "Floating-point numbers?",
            "Votes are whole numbers; noise is an exactly distributed normal variable, rounded to their grid.",
        ),
        _Item(
            "Randomness?",
            "A cryptographic stream, keyed by a secret and all counts: the guarantee is computational. "
            f"{_DRAWN[facts.privacy['supplied_secret']]}",
        ),
        _Item("Retries and resumes?", "The same counts find the same noise again; other counts are refused."),
        _Item(
            "Time?",
            "No file of a release carries a time; a bucket shows when each was written, a copy by `export --all` "
            "does not.",
        ),
        _Item("Stops and errors?", _stops(facts)),
        _Item("Can somebody watch the machine, its network or its bills while private stages run?"),
    ]


def _stops(facts: Facts) -> str:
    if not facts.private:
        return "Not covered: nothing is."
    said = [part for part in facts.privacy["statement"].split(". ") if "stop" in part]
    return " ".join(f"{plain(part.rstrip('.'))}." for part in said)


_SECURITY = [
    _Item("What may be shared?", "`release/` alone (`pe-beam export --all`). `private/` and `work/` may not."),
    _Item("Is the secret deleted? It is when a run ends, unless the recipe keeps it (`privacy.keep_secret`)."),
    _Item("Who can read the private records, `private/`, `work/`, backups and old versions of buckets?"),
    _Item("Are they encrypted where they lie and on their way?"),
    _Item("Is `private/` deleted (`pe-beam purge`) once it is no longer wanted?"),
]


_COLLECTION = [
    _Item("How were the records collected, and what did their people agree to?"),
    _Item("Who sees them before they get here? No noise protects them there."),
    _Item("Are more of them kept than is needed, or longer?"),
    _Item("Do those whom the data are about learn what is promised, in words that they understand?"),
]
