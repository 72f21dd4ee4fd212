"""What is done to pairs: pure functions over Arrow tables and bytes, each with its verdicts."""
