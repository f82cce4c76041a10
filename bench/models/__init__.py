"""Models by name. `catalog` knows their blocks without importing torch; the rest builds and loads them."""
