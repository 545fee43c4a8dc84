"""How a running training is asked to stop: it polls; nobody reaches into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

Stop = Literal["keep", "discard", "leave"]


class Control(Protocol):
    """Asked once a step."""

    def stop_requested(self) -> Stop | None:
        """'keep': finish the step and save the student. 'discard': finish the step and remove it. None: go on.

        'leave': finish the step, write a checkpoint and end without an ending: another worker goes on from there.
        """

    def before_saving(self) -> None:
        """Called right before weights on disk are put in place of older ones.

        What the run has said so far is written first, so a resume never starts behind points that are lost. Whoever
        has lost the run to another worker raises here (no Exception), and nothing is replaced.
        """


def before_saving(control: Control) -> Callable[[], None]:
    """The control's own `before_saving`; of a control that has none, a function that does nothing."""
    return getattr(control, "before_saving", NoControl().before_saving)


class NoControl:
    """Never stops."""

    def stop_requested(self) -> Stop | None:
        return None

    def before_saving(self) -> None:
        return None
