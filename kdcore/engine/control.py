"""How a running training is asked to stop: it polls; nobody reaches into it."""

from __future__ import annotations

from typing import Literal, Protocol

Stop = Literal["keep", "discard"]


class Control(Protocol):
    """Asked once a step."""

    def stop_requested(self) -> Stop | None:
        """'keep': finish the step and save the student. 'discard': finish the step and remove it. None: go on."""


class NoControl:
    """Never stops."""

    def stop_requested(self) -> Stop | None:
        return None
