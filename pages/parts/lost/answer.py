"""What the page says first: how much of the teacher the student has, and what of the gap is its size."""

from __future__ import annotations

import numpy as np
import streamlit as st

from kdcore.analysis.lost import Loss
from pages.parts.common.text import hundredfold, metric_title, plain, task_title


def show(loss: Loss) -> None:
    own = loss.own
    with st.container(border=True, key="lost_answer"):
        icon = ":material/check_circle:" if own["high"] <= 0 or own["low"] > 0 else ":material/help:"
        st.markdown(f"{icon} **{_gap(loss)}** {_rows(loss)} {_alone(loss)}")
        seeds = f"{int(own['n'])} seed{'' if own['n'] == 1 else 's'}"
        parts = [plain(task_title(loss.row.task)), f"{metric_title(loss.metric)}, dev split", seeds]
        st.caption(" · ".join([*parts, f"teacher {plain(loss.teacher)} {hundredfold(own['teacher'])}"]))


def _gap(loss: Loss) -> str:
    own = loss.own
    share = "" if np.isnan(own["retention"]) else f", {100 * own['retention']:.1f} % of it"
    interval = f"95 % interval {100 * own['low']:+.1f} to {100 * own['high']:+.1f}"
    if own["low"] <= 0 <= own["high"]:
        return (
            f"No loss is shown: the student has {hundredfold(own['score'])}, its teacher {hundredfold(own['teacher'])}"
            f"{share} (gap {100 * own['gap']:+.1f}, {interval})."
        )
    side = "lost" if own["gap"] > 0 else "gained"
    return (
        f"The student {side} {abs(100 * own['gap']):.1f} points: {hundredfold(own['score'])} against its teacher's "
        f"{hundredfold(own['teacher'])}{share} ({interval})."
    )


def _rows(loss: Loss) -> str:
    if not loss.classes:
        return ""
    cells = list(loss.cells.values())
    lost, gained = (float(np.mean([getattr(each, name) for each in cells])) for name in ("lost_share", "gained_share"))
    wrong = "" if np.isnan(gained) else f", and has right {100 * gained:.1f} % of those that it has wrong"
    return f"It gets wrong {100 * lost:.1f} % of the rows that the teacher has right{wrong}."


def _alone(loss: Loss) -> str:
    own = loss.own
    if not own["alone_n"]:
        return "What training alone loses is not known: no finished run of it has this size and protocol."
    gap, gain = 100 * own["alone_gap"], 100 * own["gain"]
    said = f"Training the same student alone {'loses' if gap >= 0 else 'gains'} {abs(gap):.1f} points"
    if loss.row.method == "fine-tune":
        return "This is training alone: the gap is that of its size and its rows."
    if abs(gain) < 0.05:
        return f"{said}: distillation changes nothing of the gap."
    verb = "raises" if gain > 0 else "lowers"
    return f"{said}: distillation {verb} the score by {abs(gain):.1f} points ({_seeds(own['alone_n'])})."


def _seeds(count: int) -> str:
    return f"{count} shared seed{'' if count == 1 else 's'}"
