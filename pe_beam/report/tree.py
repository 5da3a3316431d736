"""The family tree: shows a candidate with its ancestors, siblings and children. Links and arrow keys move in it."""

from __future__ import annotations

import json

from markupsafe import Markup

from pe_beam.contracts.view import Section
from pe_beam.report.galleries import Gallery
from pe_beam.report.html import join, tag


def tree_section(gallery: Gallery) -> Section:
    """Returns the section: an empty element that the script fills, and all fragments that the script needs."""
    lead = "Every candidate has one parent. Choose any, and walk back to the first guess or on to what became of it."
    kept = len(gallery.lineage.nodes)
    everything = sum(len(generation.ids) for generation in gallery.lineage.generations)
    note = (
        f"{kept:,} of {everything:,} candidates can be walked: those of the galleries and all their ancestors. Arrow "
        "keys: "
        "left to the parent, right to a child, up and down among siblings."
    )
    store = join(
        tag("div", gallery.view.fragment(gallery.record(t, row), gallery.parent(t, row), large=True), data_n=key)
        for key, t, row in _keys(gallery)
    )
    stage = Markup(
        '<div id="tree" class="{}" hidden></div><template id="fragments">{}</template>'
        '<noscript><p class="note">Walking through it needs JavaScript. The lines of descent above do not.</p>'
        "</noscript>"
    ).format("tiled" if gallery.view.tile else "blocked", store)
    body = join([tag("p", note, class_="muted small"), stage])
    return Section(key="lineage", title="The family tree", lead=lead, body=body)


def tree_data(gallery: Gallery) -> str:
    """Returns JSON for the script. Nodes are key -> [label's position, parent's key, noisy votes, children, kept]."""
    lineage, history = gallery.lineage, gallery.history
    nodes = {}
    for key, t, row in _keys(gallery):
        generation = lineage.generations[t]
        parent = f"{t - 1}-{lineage.generations[t - 1].ids[generation.parents[row]]}" if t else None
        votes = None if generation.votes is None else round(float(generation.votes[row]), 2)
        nodes[key] = [
            int(generation.codes[row]),
            parent,
            votes,
            int(generation.children[row]),
            int(generation.kept[row]),
        ]
    best = next(row for row in (*map(lineage.best, lineage.shown_codes), 0) if row is not None)
    first, row = lineage.ancestors(history.last, best)[-2:][0]
    rounds = history.iterations[1:]
    return json.dumps(
        {
            "nodes": nodes,
            "first": f"{first}-{lineage.generations[first].ids[row]}",
            "last": history.last,
            "labels": [label or "" for label in history.labels],
            "sigma": [round(history.sigma(t), 4) for t in rounds],
            "thresholds": [
                [None if value is None else round(value, 4) for value in history.thresholds(t).values()] for t in rounds
            ],
            "pooled": bool(history.recipe["evolution"]["smoothing"]),
        },
        separators=(",", ":"),
        ensure_ascii=True,
    )


def _keys(gallery: Gallery) -> list[tuple[str, int, int]]:
    generations = gallery.lineage.generations
    return [(f"{t}-{generations[t].ids[row]}", t, row) for t, row in sorted(gallery.lineage.nodes)]
