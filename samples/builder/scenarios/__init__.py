"""Small named captures, one for each thing that a reader of nsys exports may stumble over.

    truth = SCENARIOS["two_processes_two_gpus"](directory)
    truth.path, truth.rows["CUPTI_ACTIVITY_KIND_KERNEL"], truth.facts["gpu_of_pid"]

A scenario is one function in one of the modules here, with the decorator `scenario`.
"""

from samples.builder.scenarios import cpu_work, gpu_work, graphs, oddities, versions
from samples.builder.scenarios.registry import SCENARIOS, Scenario
from samples.builder.scenarios.versions import same_run

__all__ = [
    "SCENARIOS",
    "Scenario",
    "cpu_work",
    "gpu_work",
    "graphs",
    "oddities",
    "same_run",
    "versions",
]
