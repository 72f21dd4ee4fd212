"""Recipes: YAML, read strictly, into stages that are wired and checked."""
