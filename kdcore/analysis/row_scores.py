"""What each dev row adds to a run's score, from the predictions that the run stored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdcore.analysis.significance import contributions
from kdcore.engine.run_files import student_predictions
from kdcore.errors import UserError
from kdcore.paths import run_dir
from kdcore.tasks import TASKS


class Contributions(NamedTuple):
    """ids: of the dev rows [rows]. values: what each adds to the score [rows]; their mean is the score."""

    ids: NDArray[np.int64]
    values: NDArray[np.float64]


def contributions_of(run: str, task: str, metric: str) -> Contributions | None:
    """Of a run's student on the dev split; None where its predictions are not here, or the metric has no such parts."""
    split = TASKS[task].splits[0] if task in TASKS else "validation"
    try:
        arrays = student_predictions(run_dir(run), split)
    except UserError:
        return None
    if arrays is None:
        return None
    values = contributions(metric, arrays["logits"], arrays["labels"])
    return None if values is None else Contributions(arrays["ids"], values)
