"""What training costs by arithmetic, in multiply-accumulates and bytes: follow -> step -> cell. Needs torch."""

from bench.cost.fine_tuning import cell_costs, fine_tuning_macs
from bench.cost.follow import step_of, trace
from bench.cost.step import Cost, Operation, Trace

__all__ = ["Cost", "Operation", "Trace", "cell_costs", "fine_tuning_macs", "step_of", "trace"]
