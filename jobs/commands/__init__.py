"""The `openwit` command, one module per verb."""
