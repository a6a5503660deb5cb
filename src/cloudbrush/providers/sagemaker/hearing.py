"""When to look for what, while an invocation is followed, and what was told already."""

from __future__ import annotations

from collections.abc import Sequence

from cloudbrush.domain.invocation import (
    HEARTBEAT_SECONDS,
    ImagePainted,
    ImageResult,
    Report,
    WorkerEvent,
)
from cloudbrush.providers.sagemaker.notices import Notice

FIRST_LOOK, LONGEST_LOOK = 60.0, 900.0  # seconds between looks for a result that nobody announced
SOON = (
    1.0  # seconds until the next look for one that was announced and cannot be read yet; then twice as long
)
REPORTS = 2.0  # seconds between looks at a worker's report while someone watches


class Hearing:
    """What the follower of one invocation has heard, and what it does next; times in seconds."""

    def __init__(self, now: float, first_look: float) -> None:
        self.notice: Notice | None = None
        self.looks = 0  # since the notice
        self._pause = first_look
        self._look_at = now + first_look
        self._spoke_at = self._read_at = now
        self._told = Report()

    def hear(self, notice: Notice | None, now: float) -> None:
        """Take a notice, if there is one; a second one says nothing new."""
        if notice is not None and self.notice is None:
            self.notice, self._pause, self._look_at = notice, SOON / 2, now

    def is_time_to_look(self, now: float) -> bool:
        """Whether its end may be to be seen."""
        return now >= self._look_at

    def saw_nothing(self, now: float) -> None:
        """Take longer until the next look."""
        if self.notice is None:
            self._pause = min(max(FIRST_LOOK, self._pause * 2), LONGEST_LOOK)
        else:
            self._pause *= 2
            self.looks += 1
        self._look_at = now + self._pause

    def is_time_for_report(self, now: float) -> bool:
        """Whether the last look at the worker's report is long enough ago."""
        return now - self._read_at >= REPORTS

    def news(self, report: Report, now: float) -> list[WorkerEvent]:
        """What the report says that was not told before."""
        self._read_at = now
        steps = [report.progress] if report.progress and report.progress != self._told.progress else []
        images = self.new_images(report.images)
        self._told = report
        return [*images, *steps]

    def new_images(self, images: Sequence[ImageResult]) -> list[ImagePainted]:
        """The images that were not told before."""
        told = {image.index for image in self._told.images}
        return [ImagePainted(image=image) for image in images if image.index not in told]

    def is_silent_too_long(self, now: float) -> bool:
        """Whether a sign of life is due; then it counts as given."""
        if now - self._spoke_at < HEARTBEAT_SECONDS:
            return False
        self._spoke_at = now
        return True
