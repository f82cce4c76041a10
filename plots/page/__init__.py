"""HTML pages: each is one file that needs no network."""
