"""Shards: webdataset tars and Arrow files, deterministic to the byte."""
