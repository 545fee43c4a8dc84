"""Settings as a run keeps them: with every option spelled out, so that a later default changes no earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdcore.config import RunConfig
from kdcore.settings_file import with_absolute_paths
from kdcore.tasks import find_task


def complete(run: RunConfig, options: Mapping[str, Any] | None = None) -> RunConfig:
    """The same run with all of its method's options, where the method comes from, and absolute paths.

    Args:
        options: of the method, over those of the run.

    Raises:
        UserError: unknown task, method or option, a value out of bounds, or another method than the settings name.
    """
    from kdcore.methods import resolve
    from kdcore.methods.catalog import check_source, source_of

    if run.own is None:
        find_task(run.task)
    check_source(run)
    _, config = resolve(run.method, {**run.options, **(options or {})})
    whole = {"options": config.model_dump(mode="json"), "method_source": source_of(run.method)}
    return with_absolute_paths(run.model_copy(update=whole))
