"""From a list of pairs to fetched, judged, deduplicated and sharded pictures.

Pictures are written twice: by `fetch` into a pool of tars, and by `shard`. Everything between works
on rows that say where in the pool a picture lies.
"""
