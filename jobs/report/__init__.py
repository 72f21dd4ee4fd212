"""The report of a build: a page, its charts and its panels."""
