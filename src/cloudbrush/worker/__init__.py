"""The HTTP box around one engine, speaking the SageMaker container contract."""
