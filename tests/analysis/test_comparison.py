"""What a run gained over fine-tuning alone, from rows of the store."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdcore.analysis.comparison import over_fine_tuning


def test_gain_over_fine_tuning_is_taken_within_protocol_and_seed():
    rows = [
        ("fine-tune", "a", 0, 0.70),
        ("fine-tune", "a", 1, 0.60),
        ("fine-tune", "a", 1, 0.64),  # run twice: their mean
        ("kd", "a", 0, 0.73),
        ("kd", "a", 1, 0.60),
        ("kd", "a", 2, 0.90),  # no fine-tuning of this seed
        ("kd", "b", 0, 0.90),  # nor of this training
        ("pkd", "a", 0, np.nan),  # not finished
    ]
    runs = pd.DataFrame(rows, columns=["method", "protocol", "seed", "score"])
    gains = over_fine_tuning(runs)
    assert np.allclose(gains, [np.nan] * 3 + [0.03, -0.02] + [np.nan] * 3, equal_nan=True)
    assert over_fine_tuning(runs[runs["method"] == "kd"]).isna().all()
    assert over_fine_tuning(runs.iloc[:0]).empty
