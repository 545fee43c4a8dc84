"""Events as lines of a run's log."""

from __future__ import annotations

from kdcore import events
from kdcore.events import Event


def describe(event: Event) -> str:
    """One line of the log."""
    match event:
        case events.RunStarted():
            plain = ", ".join(f"{k}={v}" for k, v in event.facts.items() if not isinstance(v, (dict, list)))
            return "\n".join([f"started {plain}", *(f"warning: {line}" for line in event.facts.get("warnings", ()))])
        case events.StageStarted():
            return f"stage {event.stage}: {event.steps} steps"
        case events.StepDone():
            terms = ", ".join(f"{name} {value:.4g}" for name, value in event.raw.items())
            return f"step {event.step}/{event.steps} loss {event.loss:.4g} ({terms}) {event.examples_per_second:.0f}/s"
        case events.Evaluated():
            scores = ", ".join(f"{name} {value:.4f}" for name, value in event.scores.items())
            return f"{event.which} on {event.split} at step {event.step}: {scores}"
        case events.Progress():
            return f"{event.what} {event.done}/{event.total}" if event.done in (0, event.total) else ""
        case events.Probed():
            return f"measured {event.name}"
        case events.Checkpointed():
            return f"checkpoint at step {event.step}"
        case events.RunFinished():
            return "finished"
        case events.RunStopped():
            return f"stopped at step {event.step}, {'kept' if event.kept else event.why_not or 'discarded'}"
        case events.RunFailed():
            return f"failed: {event.reason}; {event.remedy}"
    return ""
