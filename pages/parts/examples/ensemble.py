"""What several teachers answer: how the method mixes them, and whether the mixture beats the best of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from kdcore.methods.catalog import title_of
from kdcore.probes import ensemble
from kdcore.probes.ensemble import MIXTURE, STUDENT, Mixed
from kdcore.store import RunRow, Store
from pages.parts.common import cards
from pages.parts.common.keys import ENSEMBLE_TEMPERATURE
from pages.parts.common.text import listed, plain
from pages.parts.examples import ensemble_rows, ensemble_words
from pages.parts.examples.predictions import DevRows, Predictions

if TYPE_CHECKING:
    from kdcore.analysis.teacher_mixture import TeacherMixture

HOW = (
    "Mixture: weighted mean of the teachers' probabilities at T (of their scores). NLL: −ln p(gold), mean over rows, "
    "in nats, of each model at the same T. Differs: rows on which a teacher's label is not the mixture's. Share of "
    "target: wₖ pₖ(c) / Σⱼ wⱼ pⱼ(c), c the label that the mixture gives."
)


def show(store: Store, row: RunRow, dev: DevRows, own: Predictions, place: DeltaGenerator) -> None:
    """place: for the choice of the temperature."""
    from kdcore.analysis import teacher_mixture  # brings the methods, and with them torch

    names = [teacher.name for teacher in row.config.teachers]
    if len(names) < 2:
        st.markdown(ensemble_words.one_teacher(row, names, teacher_mixture.chain(row)))
        st.caption(f"Methods that mix several teachers: {listed(map(plain, teacher_mixture.methods_that_mix()), 20)}.")
        return
    mixture = teacher_mixture.read_mixture(store, row)
    missing = [name for name in names if name not in own.teachers]
    if missing:
        cards.empty(f"No predictions of {listed(map(plain, missing))} were kept on these rows.")
        return
    if mixture is None or not mixture.weights:
        st.info(ensemble_words.no_weights(title_of(row.method), mixture), icon=":material/info:")
        mixture = None
    _show_mixture(row, dev, own, mixture, place)


def _show_mixture(
    row: RunRow, dev: DevRows, own: Predictions, mixture: TeacherMixture | None, place: DeltaGenerator
) -> None:
    """All about the mixture; mixture: None where the method has no weights, so that a plain mean stands for it."""
    names = own.teachers
    weights = mixture.weights if mixture else dict.fromkeys(names, 1 / len(names))
    temperature = _temperature(mixture.method.temperature if mixture and dev.task.labels else 1.0, place)
    mixed = ensemble.mix(names, weights, temperature)
    student = own.student if mixed.regression else own.student / temperature
    table = ensemble.quality(own.gold, {**mixed.teachers, MIXTURE: mixed.mixture, STUDENT: student})
    each = ensemble.rows(mixed)
    with st.container(border=True, key="ensemble_answer"):
        st.markdown(ensemble_words.answer(table, mixed, each, temperature))
        if mixture:
            st.caption(ensemble_words.mixing(title_of(row.method), mixture))
    _table(table, mixed, mixture)
    with st.popover("How this is computed", icon=":material/function:", key="ensemble_how"):
        st.markdown(HOW)
    ensemble_rows.show(dev, own, mixed, each, student, mixture.method.kind if mixture else "")


def _temperature(method: float, place: DeltaGenerator) -> float:
    """The method's, or 1 where a person asks for it."""
    if method == 1:
        return 1.0
    options = {"method": f"As taught, T = {method:g}", "plain": "T = 1"}
    chosen = place.segmented_control(
        "Temperature", list(options), key=ENSEMBLE_TEMPERATURE, bind="query-params", default="method", required=True,
        format_func=lambda key: options.get(key, key),
        help="At the method's temperature the student compares its own answer with the mixture",
    )  # fmt: skip
    return 1.0 if chosen == "plain" else method


def _table(table: pd.DataFrame, mixed: Mixed, mixture: TeacherMixture | None) -> None:
    """One line a model."""
    last = MIXTURE if mixture else "plain mean"
    shown = pd.DataFrame({"model": [*(f"teacher {name}" for name in mixed.teachers), last, STUDENT]})
    helps: dict[str, str] = {}
    if mixture:
        head = "chance" if mixture.method.kind == "draw" else "weight"
        shown[head], helps[head] = _of_teachers(mixed.weights.values()), "Of being drawn at a step, or in the mean"
        if mixture.counted:
            shown["drawn"], helps["drawn"] = (
                _of_teachers(mixture.counted[name] for name in mixed.teachers),
                "Share of the steps that it really taught",
            )
    for name in table:
        shown[str(name)] = table[name].to_numpy() * (100 if name == "accuracy" else 1)
    if not mixed.regression:
        shown["differs"] = _of_teachers(ensemble.dissent(mixed).mean().tolist())
        helps["differs"] = "Rows on which it gives another label than the mixture"
    configs = {
        name: st.column_config.NumberColumn(
            "NLL" if name == "nll" else name, help=helps.get(name),
            format="%.3f" if name in ("nll", "error", "pearson") else "%.1f%%",
        )
        for name in shown.columns[1:]
    }  # fmt: skip
    st.dataframe(shown, hide_index=True, key="ensemble_models", column_config=configs, placeholder="–",
                 alt="Teachers, their mixture and the student: weight and quality")  # fmt: skip


def _of_teachers(values: Iterable[float]) -> list[float | None]:
    """A share of each teacher in percent; mixture and student have none."""
    return [*(100 * value for value in values), None, None]
