"""The report of a run: one self-contained HTML file, built from the release folder alone.

`history` reads a release. `page` is the frame of a page (style, header, sections). `charts` and `html` make the parts
of sections. `lineage` finds parents and children of candidates. `build` makes the report of all of these. No module
uses Beam or private data: everything that a report shows is in `release/` already.

May import: contracts, privacy, recipe, storage, wording, errors; Jinja, Matplotlib.
"""
