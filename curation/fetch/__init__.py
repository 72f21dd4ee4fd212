"""From URLs to pictures: guarded, bounded and polite requests, and the pool they fill."""
