"""What an instance costs: public on-demand prices of SageMaker inference, to decide by, not to bill by.

They are for us-east-1 as published in August 2026, read at second hand and rounded. Prices differ between
regions and change: check them at https://aws.amazon.com/sagemaker/pricing/ before you rely on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

REGION = "us-east-1"
AS_OF = "August 2026"


@dataclass(frozen=True)
class Instance:
    """One instance type with its one GPU."""

    gpu: str
    gpu_gib: int  # memory
    usd_per_hour: float


# Those with more GPUs are left out: a worker drives one, and the others would cost for nothing.
INSTANCES = MappingProxyType(
    {
        "ml.g4dn.xlarge": Instance("T4", 16, 0.74),
        "ml.g4dn.2xlarge": Instance("T4", 16, 0.94),
        "ml.g4dn.4xlarge": Instance("T4", 16, 1.51),
        "ml.g4dn.8xlarge": Instance("T4", 16, 2.72),
        "ml.g5.xlarge": Instance("A10G", 24, 1.41),
        "ml.g5.2xlarge": Instance("A10G", 24, 1.52),
        "ml.g5.4xlarge": Instance("A10G", 24, 2.03),
        "ml.g5.8xlarge": Instance("A10G", 24, 3.06),
        "ml.g6.xlarge": Instance("L4", 24, 1.13),
        "ml.g6.2xlarge": Instance("L4", 24, 1.22),
        "ml.g6.4xlarge": Instance("L4", 24, 1.65),
        "ml.g6.8xlarge": Instance("L4", 24, 2.52),
        "ml.g6e.xlarge": Instance("L40S", 48, 2.61),
        "ml.g6e.2xlarge": Instance("L40S", 48, 2.80),
    }
)
