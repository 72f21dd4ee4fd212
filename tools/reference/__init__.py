"""The reference in docs/reference, printed from the code so that it cannot fall behind it.

`python -m tools.reference` (`make reference`) writes the pages; a test compares them with the code.
"""
