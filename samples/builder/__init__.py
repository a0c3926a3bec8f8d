"""A builder of small nsys SQLite exports with known contents.

`Capture` builds one call by call in the schema of any nsys since 2020; `decode_run` fills one
with the decode run of an LLM engine and says what is in it; `scenarios.SCENARIOS` are small named
captures, one for each thing that a reader of nsys exports may stumble over.
"""

from samples.builder.capture import SESSION_START_NS, Capture
from samples.builder.decode import decode_run
from samples.builder.model import (
    A100,
    H100,
    RTX_3090,
    RTX_5070_TI,
    GpuModel,
    Kernel,
    Process,
    Thread,
)
from samples.builder.store import Store, UnknownColumnError, UnknownTableError
from samples.builder.targets import SECRETS
from samples.builder.truth import DecodeTruth
from samples.builder.versions import PRODUCTS

__all__ = [
    "A100",
    "H100",
    "PRODUCTS",
    "RTX_3090",
    "RTX_5070_TI",
    "SECRETS",
    "SESSION_START_NS",
    "Capture",
    "DecodeTruth",
    "GpuModel",
    "Kernel",
    "Process",
    "Store",
    "Thread",
    "UnknownColumnError",
    "UnknownTableError",
    "decode_run",
]
