"""Draw the results that `bench.analysis` gives: one module per figure, and the HTML pages."""
