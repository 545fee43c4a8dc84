"""One method as picture, equation and words, all read from its class; with a run's own numbers where there is one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import pandas as pd
import streamlit as st

from kdcore.figures import method_picture, palette
from kdcore.figures.layers import describe_map
from kdcore.methods import METHODS, Method, MethodConfig, docs, resolve
from kdcore.records import ModelSize, Setup
from kdcore.report import latex
from kdcore.store import RunRow
from pages.parts.common import cards, loss_equation
from pages.parts.common.run_picker import remember, run_words, the_store
from pages.parts.common.text import plain, sentence

NO_RUN = ""


def show() -> None:
    key = _method()
    method = METHODS[key]
    said = docs.read(method)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(method.title), anchor=False, width="content")
        st.badge(palette.FAMILY_WORDS.get(method.paper.family, method.paper.family), icon=":material/category:")
    st.markdown(plain(said.idea, 500))
    row = _run(key)
    config, setup = _of_run(method, row) if row else (method.Config(), docs.example(method))
    left, right = st.columns([6, 5], gap="large")
    with left, cards.guarded("The picture cannot be drawn"):
        _picture(method, _parts(key, config.model_dump_json(), repr(setup), setup), setup, row)
    with right:
        _equation(said, method.Config.model_fields)
    if row:
        _numbers(row)
    else:
        cards.empty("**No finished run of this method yet.** With one, the equation stands here with its numbers.")
    st.subheader("Settings", anchor=False)
    _settings(method)
    st.subheader("What to know", anchor=False)
    with cards.guarded("The stages cannot be listed"):
        _facts(method, config, setup, _parts(key, config.model_dump_json(), repr(setup), setup))
    with st.expander("Where this differs from the paper, and how its weights convert", icon=":material/rule:"):
        st.markdown(plain(said.departs, 5000))
    paper = method.paper
    st.caption(
        f"{plain(paper.authors)}: *{plain(paper.title)}*. {plain(paper.venue)} {paper.year}, "
        f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
    )
    with st.expander("All methods at a glance", icon=":material/list:"):
        st.dataframe(_overview(), hide_index=True, key="learn_overview", alt="All methods with what they match")


def _method() -> str:
    """A list box, tied to `?method=`."""
    asked = st.query_params.get("method")
    if asked is not None and asked not in METHODS:
        st.warning(f"There is no method {plain(asked, 60)}. It was left out.", icon=":material/link_off:")
        del st.query_params["method"]
        asked = None
    st.session_state["learn_method"] = asked or st.session_state.get("learn_last", next(iter(METHODS)))
    key: str = st.selectbox(
        "Method", list(METHODS), key="learn_method", format_func=_method_words, on_change=_method_picked
    )
    st.session_state["learn_last"] = st.query_params["method"] = key
    return key


def _method_picked() -> None:
    st.query_params["method"] = st.session_state["learn_method"]


def _method_words(key: str) -> str:
    method = METHODS[key]
    family = palette.FAMILY_WORDS.get(method.paper.family, method.paper.family)
    return f"{method.title} · {family} · {method.paper.cite}"


def _run(key: str) -> RunRow | None:
    """The finished run whose numbers are shown: the one the address names, else the newest of this method."""
    runs = the_store().runs(include_archived=True)
    runs = runs[(runs["state"] == "done") & (runs["method"] == key)]
    if runs.empty:
        return None
    ids = list(runs["id"])
    wanted = st.query_params.get("job") or st.session_state.get("job")
    named = {row["id"]: run_words(row) for _, row in runs.iterrows()}
    st.session_state["learn_run"] = wanted if wanted in ids else ids[0]
    picked = st.selectbox(
        "Numbers and sizes of the run", ids, key="learn_run", format_func=lambda run: named.get(run, run),
        on_change=_picked,
    )  # fmt: skip
    row = the_store().get(picked)
    return None if row.broken else row


def _picked() -> None:
    remember(st.session_state["learn_run"])


def _of_run(method: type[Method], row: RunRow) -> tuple[MethodConfig, Setup]:
    """The run's settings and sizes; sizes that it did not note are those of an example."""
    config = resolve(row.method, row.config.options)[1]
    layers = row.config.student.layers
    setup = docs.example(method, student=layers)
    noted = row.facts.get("teachers")
    if isinstance(row.facts.get("student"), dict) and isinstance(noted, dict):
        teachers = {str(name): ModelSize(**about["shape"]) for name, about in noted.items()}
        # the noted student is the one that runs, which may be deeper than the one that was asked for
        student = replace(ModelSize(**row.facts["student"]), layers=layers)
        setup = replace(setup, student=student, teachers=teachers or setup.teachers,
                        scores=dict.fromkeys(teachers or setup.teachers, 0.5))  # fmt: skip
    return config, setup


@st.cache_resource(max_entries=64, show_spinner=False)
def _parts(key: str, options: str, sizes: str, _setup: Setup) -> list[docs.Part]:
    """Kept by settings and sizes: it takes a moment to build the method."""
    del sizes
    method = METHODS[key]
    return docs.parts(method, method.Config.model_validate_json(options), _setup)


def _picture(method: type[Method], parts: list[docs.Part], setup: Setup, row: RunRow | None) -> None:
    part = parts[0]
    if len(parts) > 1:
        names = [part.stage.name for part in parts]
        chosen = st.segmented_control("Stage", names, key=f"learn_stage_{method.key}", default=names[0], required=True)
        part = next((part for part in parts if part.stage.name == chosen), part)
    asked = len(setup.teachers) if row else 0
    cards.figure(
        partial(
            method_picture.picture,
            part.needs,
            part.layer_map,
            part.depth,
            part.teacher_depth,
            family=method.paper.family,
            names=((part.teacher or "Teacher").capitalize(), part.learner.capitalize()),
            teachers=(1, 1) if part.teacher else (asked, asked) if asked else method.teachers,
            dark=cards.dark(),
        ),
        "learn_picture",
        _picture_words(part),
    )


def _picture_words(part: docs.Part) -> str:
    if not part.needs.teacher:
        return "The student learns from the gold labels alone."
    return f"Lines join what is compared. {describe_map(part.layer_map)}"


def _equation(said: docs.Words, settings: Collection[str]) -> None:
    st.markdown("##### What is minimised")
    names = {*said.terms, *settings}
    with st.container(key="learn_equation"):
        for line in said.loss:
            if line.stage:
                st.caption(sentence(plain(line.stage)).rstrip("."))
            formula = latex.broken(line.formula, names)
            if formula:
                st.latex(formula)
            else:
                st.markdown(_mixed(line.formula, names))
            if line.aside:
                st.caption(_mixed(line.aside))
    for name, text in {**said.terms, **said.more}.items():
        st.markdown(f"**{plain(name)}**: {_mixed(text)}")
    st.caption(f"Shapes. {plain(said.shapes, 1000)}")


def _mixed(text: str, names: Collection[str] = ()) -> str:
    """Prose with its formulas set as formulas."""
    return "".join(f"${one.text}$" if one.math else plain_prose(one.text) for one in latex.pieces(text, names))


def plain_prose(text: str) -> str:
    """`plain` that keeps the spaces at both ends, which part prose from formulas."""
    inner = text.strip()
    return plain(inner, 2000).join(
        (text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :] if inner else "")
    )


def _numbers(row: RunRow) -> None:
    """The run's own loss, stage by stage, as it stood at the stage's last logged step."""
    st.subheader("In numbers", anchor=False)
    metrics = the_store().metrics([row.id], kinds=["loss", "raw", "weighted", "gradient_share"])
    if metrics.empty:
        st.caption("This run has logged no step.")
        return
    cards.badges(row.task, row.facts.get("partial"))
    st.caption(f"The loss of {plain(row.name, 80)} as it was logged last; the weights are this run's. One seed.")
    stages = list(dict.fromkeys(metrics["stage"]))
    for at, stage in enumerate(stages):
        if len(stages) > 1:
            st.markdown(f"**Stage {plain(stage)}**")
        with cards.guarded("The loss cannot be written as an equation"):
            loss_equation.show(metrics[metrics["stage"] == stage], key=f"learn_{at}")


def _settings(method: type[Method]) -> None:
    found = docs.settings(method.Config)
    if not found:
        st.caption("This method has no settings of its own.")
        return
    table = pd.DataFrame([vars(one) for one in found]).map(plain)
    st.table(table.rename(columns={"name": "setting", "description": "what it does"}).set_index("setting"))


def _facts(method: type[Method], config: MethodConfig, setup: Setup, parts: list[docs.Part]) -> None:
    fewest, most = method.teachers
    counts = str(fewest) if fewest == most else f"{fewest} to {most}"
    kinds = {"classification": "classification", "regression": "scores (regression)"}
    rows = (
        "compared with one another within a batch, so the batch size changes the loss"
        if method.batch_relational
        else "each by itself: who else is in the batch changes nothing"
    )
    pilots = method.pilots(config, len(setup.teachers))
    lines = [
        f"**Teachers**: {counts}",
        f"**Tasks**: {' and '.join(said for kind, said in kinds.items() if kind in method.kinds)}",
        f"**Rows**: {rows}",
        f"**Extra trainings** with these settings: {f'{pilots:g} times the run' if pilots else 'none'}",
    ]
    lines += [f"**Stage {plain(part.stage.name)}**: {_stage_words(part)}" for part in parts]
    st.markdown("\n".join(f"- {line}" for line in lines))


def _stage_words(part: docs.Part) -> str:
    stage = part.stage
    share = f"{stage.share:.0%} of the run's steps" + (", beside the run's own" if stage.pilot else "")
    taught = f"{part.teacher or 'teacher'}: {docs.reads(part.needs.teacher)}"
    judged = "its own loss" if stage.judge == "loss" else "the task's score"
    return plain(
        f"{share}; reads of {part.learner}: {docs.reads(part.needs.student)}; of {taught}; "
        f"its best weights are chosen by {judged} on select",
        600,
    )


def _overview() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "method": method.title,
                "matches": palette.FAMILY_WORDS.get(method.paper.family, method.paper.family),
                "student's tensors": ", ".join(docs.TENSOR_WORDS[name] for name in method.needs.student),
                "teachers": "–".join(map(str, dict.fromkeys(method.teachers))),
                "paper": method.paper.cite,
                "key": key,
            }
            for key, method in METHODS.items()
        ]
    )
