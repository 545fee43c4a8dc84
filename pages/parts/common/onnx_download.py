"""The ONNX files of a student beside its download: made in the background on a click, checked, then offered."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from functools import partial

import streamlit as st

from kdcore.errors import UserError
from kdcore.export.kept_onnx import KeptOnnx, check_packages, kept_onnx, onnx_zip
from kdcore.export.onnx_maker import OnnxMaker
from kdcore.store import Store
from pages.parts.common import cards
from pages.parts.common.mode import read_only
from pages.parts.common.read_only import action
from pages.parts.common.text import plain, sentence

REFRESH_SECONDS = 1.5
ABOUT = "The student as one file for ONNX Runtime, with tokenizer, model card and `kdboard.json`."


@st.cache_resource(show_spinner=False, on_release=lambda maker: maker.stop())
def maker() -> OnnxMaker:
    """One for all sessions: exports take turns, and go on whatever a person looks at."""
    return OnnxMaker()


def or_reason(run: str, make: Callable[[], bytes]) -> bytes:
    """What is made, a zip file; where it cannot be, one with the reason: a click must show something."""
    try:
        return make()
    except UserError as error:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as file:
            file.writestr(f"{run}/not-exported.txt", f"{error}\n")
        return content.getvalue()


def show(store: Store, run: str, key: str) -> None:
    """A popover; none in read-only mode where nothing was made. key: of the download that it stands beside."""
    if read_only() and kept_onnx(run) is None:
        return
    with st.popover("ONNX", icon=":material/deployed_code:", key=f"{key}_onnx"):
        if maker().working(run):
            st.fragment(_under_way, run_every=REFRESH_SECONDS)(run)
        elif kept := kept_onnx(run):
            _offer(store, run, kept, key)
        else:
            _ask(run, key)


def _under_way(run: str) -> None:
    if not maker().working(run):
        st.rerun()
    st.markdown(":material/hourglass_top: The files are being made and checked. You may go elsewhere meanwhile.")


def _offer(store: Store, run: str, kept: KeptOnnx, key: str) -> None:
    st.caption(ABOUT)
    for int8, name in ((False, "float32"), (True, "int8")):
        st.download_button(
            f"{name} ({kept.megabytes(int8):.1f} MB)", partial(or_reason, run, partial(onnx_zip, store, run, int8)),
            f"{run}-onnx-{name}.zip", "application/zip", key=f"{key}_{name}", icon=":material/download:",
            on_click="ignore",
        )  # fmt: skip
        said = kept.check.int8_sentence() if int8 else kept.check.sentence()
        st.caption(plain(sentence(said.partition(": ")[2]), 400))


def _ask(run: str, key: str) -> None:
    """A button that makes them, or why there is none."""
    try:
        check_packages()
    except UserError as error:
        st.caption(f"{ABOUT} {plain(sentence(error.problem), 200)} {sentence(error.remedy)}")
        return
    st.caption(ABOUT)
    if problem := maker().problem(run):
        cards.problem(problem, "The ONNX files cannot be made")
    action(
        "Make the ONNX files", key=f"{key}_make", icon=":material/deployed_code:", on_click=maker().begin, args=(run,),
        help="In float32 and int8, in the background: seconds for a small student. float32 is held against the "
        "student's own answers, int8 is scored.",
    )  # fmt: skip
