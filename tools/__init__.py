"""What builds the things that openwit ships; not part of the distribution."""
