"""Figures, one module each, and the report page. They read `bench.analysis` and write files."""
