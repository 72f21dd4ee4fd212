"""Web pages: WARC framing, HTML as browsers read it, URLs, and the pairs in them."""
