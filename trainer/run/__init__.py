"""One training run: its loop, its steps, and what watches over them."""
