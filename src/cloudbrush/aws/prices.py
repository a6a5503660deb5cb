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
    """One instance type."""

    gpus: int
    gpu: str
    gpu_gib: int  # memory of each
    usd_per_hour: float


INSTANCES = MappingProxyType(
    {
        "ml.g4dn.xlarge": Instance(1, "T4", 16, 0.74),
        "ml.g4dn.2xlarge": Instance(1, "T4", 16, 0.94),
        "ml.g4dn.4xlarge": Instance(1, "T4", 16, 1.51),
        "ml.g4dn.8xlarge": Instance(1, "T4", 16, 2.72),
        "ml.g4dn.12xlarge": Instance(4, "T4", 16, 4.89),
        "ml.g5.xlarge": Instance(1, "A10G", 24, 1.41),
        "ml.g5.2xlarge": Instance(1, "A10G", 24, 1.52),
        "ml.g5.4xlarge": Instance(1, "A10G", 24, 2.03),
        "ml.g5.8xlarge": Instance(1, "A10G", 24, 3.06),
        "ml.g5.12xlarge": Instance(4, "A10G", 24, 7.09),
        "ml.g5.24xlarge": Instance(4, "A10G", 24, 10.18),
        "ml.g6.xlarge": Instance(1, "L4", 24, 1.13),
        "ml.g6.2xlarge": Instance(1, "L4", 24, 1.22),
        "ml.g6.4xlarge": Instance(1, "L4", 24, 1.65),
        "ml.g6.8xlarge": Instance(1, "L4", 24, 2.52),
        "ml.g6.12xlarge": Instance(4, "L4", 24, 5.75),
        "ml.g6.24xlarge": Instance(4, "L4", 24, 8.34),
        "ml.g6.48xlarge": Instance(8, "L4", 24, 16.69),
        "ml.g6e.xlarge": Instance(1, "L40S", 48, 2.61),
        "ml.g6e.2xlarge": Instance(1, "L40S", 48, 2.80),
        "ml.p4d.24xlarge": Instance(8, "A100", 40, 25.25),
    }
)
