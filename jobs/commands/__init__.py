"""The `openwit` command, one module a verb."""
