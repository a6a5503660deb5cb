"""Workers on instances rented from Amazon SageMaker, behind asynchronous or real-time endpoints."""

from cloudbrush.providers.sagemaker.place import Place
from cloudbrush.providers.sagemaker.provider import SageMakerProvider

__all__ = ["Place", "SageMakerProvider"]
