"""A stand-in for Amazon SageMaker hosting that unmodified boto3 clients speak to; see docs/testing.md."""

from cloudbrush.testing.sagemaker.clock import Clock, VirtualClock, WallClock
from cloudbrush.testing.sagemaker.controls import Controls
from cloudbrush.testing.sagemaker.faults import Fault
from cloudbrush.testing.sagemaker.fleet import Delays
from cloudbrush.testing.sagemaker.server import SageMaker

__all__ = ["Clock", "Controls", "Delays", "Fault", "SageMaker", "VirtualClock", "WallClock"]
