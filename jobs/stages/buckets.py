"""How many buckets an exchange has, where rows are small and a worker takes a bucket at once."""

ROWS_PER_BUCKET = 500_000


def by_rows(rows: int, params: object) -> int:
    """Buckets of about `ROWS_PER_BUCKET` rows."""
    return -(-rows // ROWS_PER_BUCKET)
