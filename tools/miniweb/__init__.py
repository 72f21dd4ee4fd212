"""The generator of the mini-web that the quickstart runs on."""
