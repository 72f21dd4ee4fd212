"""The account of every row, read from manifests and ledgers."""
