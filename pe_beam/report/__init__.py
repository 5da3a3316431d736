"""The report of a run: one self-contained HTML file, built from the release folder alone.

`history` reads a release, `page` is the skeleton (style, header, sections), `charts` and `html` are the pieces that
sections are made of, `lineage` finds who descends from whom, `build` puts all of it together. No Beam here, and nothing
that is private: whatever a report shows lies in `release/` already.

May import: contracts, privacy, recipe, storage, errors; Jinja, Matplotlib.
"""
