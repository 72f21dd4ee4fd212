"""Captions: repair, language, and rules on what they say."""
