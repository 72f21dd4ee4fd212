"""The quickstart: a build of the mini-web, a small dirty web of real pictures.

`web` holds its pages and recorded answers as WARC files, `heldout` an evaluation set, and
`queries.txt` a query list; `serve` replays the pictures on loopback. How they were generated is
in `tools/miniweb` of the source tree.
"""
