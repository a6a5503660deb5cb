"""Parameters to images; the only home of torch."""

from cloudbrush.engine.events import (
    Broke,
    Cancelled,
    Done,
    EngineEvent,
    ImageReady,
    ModelFile,
    Models,
    StepTaken,
)
from cloudbrush.engine.service import Engine, Handle

__all__ = [
    "Broke",
    "Cancelled",
    "Done",
    "Engine",
    "EngineEvent",
    "Handle",
    "ImageReady",
    "ModelFile",
    "Models",
    "StepTaken",
]
