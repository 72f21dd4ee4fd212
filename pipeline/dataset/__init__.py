"""What a dataset is, on disk and in memory: the ground floor, on numpy and pyarrow.

Curation, trainer and engine stand on it and do not know each other; it imports nothing of ours.
"""
