"""CLIP's tokenizer: the plain definition and the fast path to the same ids."""
