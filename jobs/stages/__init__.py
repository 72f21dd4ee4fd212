"""The stages that a recipe can name, one module each, and the catalogue of them."""
