"""Names of the families of events: in the summary, and for the filters `only` and `skip`."""

from __future__ import annotations

FAMILIES = {
    "kernel": "GPU kernels",
    "memcpy": "GPU memory copies and unified-memory migrations",
    "memset": "GPU memory sets",
    "graph": "GPU executions of whole CUDA graphs",
    "cuda_api": "CUDA runtime and driver calls",
    "cuda_wait": "what waiting CUDA calls waited for",
    "nvtx": "NVTX ranges and marks",
    "cublas": "cuBLAS calls",
    "cudnn": "cuDNN calls",
    "mpi": "MPI calls",
    "ucx": "UCX calls",
    "openacc": "OpenACC calls",
    "osrt": "calls of the operating system's runtime libraries",
    "sched": "times of threads on a CPU",
    "cpu_sample": "samples of what threads did, with call chains",
    "cuda_graph": "creation of CUDA graphs and their nodes",
    "overhead": "overhead of the CUDA profiling and of nsys",
    "memory": "allocations and frees of CUDA memory",
    "memory_pool": "changes of CUDA memory pools",
    "gpu_metrics": "GPU metric samples",
    "message": "messages of nsys",
}
"""Family to what it holds, in the order in which the summary lists them."""
