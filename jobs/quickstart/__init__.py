"""The mini-web: a small dirty web of real pictures that the quickstart recipe builds from.

`make_miniweb` makes the committed WARC files, the held-out eval set and the query list; `serve`
replays the pictures on loopback. Neither knows how the pipeline reads them.
"""
