"""From web pages to a balanced list of pairs, before any image is asked for."""
