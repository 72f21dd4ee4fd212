"""Programs that make what openwit ships; they are no part of the distribution."""
