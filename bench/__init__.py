"""suite.yaml -> Suite -> cells -> one fresh process per cell, under an energy sampler -> results/RUN/cells.jsonl
-> analysis -> figures and report.
"""

__version__ = "0.1.0"
