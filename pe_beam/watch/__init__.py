"""`pe-beam watch`: a page on this machine that follows a run, or the windows of a stream.

`server` answers a browser on the loopback interface, to whoever knows its token; `opening` opens one. `following` says
where a run stands, and which of that is public; `windows` does it for a stream. `drawing` shows ranges of released
populations and the family of a candidate. `populations` reads them, and `shelf` keeps a bounded part of what was read.
`page` is the page itself. What is shown comes from the release and from the holder's status alone, and no file is
served as it is.

May import: streams, driver, engine, report, recipe, releases, storage, contracts, privacy, numbers, errors.
"""
