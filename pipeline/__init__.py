"""How stages run: recipes, plans, partitions, commits, resume and the account of every row.

Nothing here knows what a caption or an image is.
"""
