"""One marker a runtime, one colour a model; a busy measurement is hollow."""

import pandas as pd

from kdcore.export.runtimes import RUNTIMES
from kdcore.figures import palette, runtimes


def test_markers_are_the_runtimes_and_colours_the_models():
    rows = [
        {"model": model, "kind": kind, "method": method, "runtime": runtime, "score": 80.0, "busy": busy, "p50_ms": ms}
        for model, kind, method in (("KD <b>", "student", "kd"), ("teacher large", "teacher", ""))
        for ms, (runtime, busy) in enumerate([("torch-fp32", False), ("onnx-int8", True)], start=1)
    ]
    figure = runtimes.scatter(pd.DataFrame(rows), "p50_ms", "ms", "score")
    shown = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert shown == [RUNTIMES["torch-fp32"], RUNTIMES["onnx-int8"]]
    whole, small = [trace for trace in figure.data if trace.hovertemplate]
    assert set(whole.marker.symbol) == {"circle"} and set(small.marker.symbol) == {"triangle-down-open"}
    assert list(whole.marker.color) == [palette.style("kd").color, palette.teacher(False).color]
    assert list(whole.text) == ["KD &lt;b&gt;", "teacher large"], "typed text is no markup"
    assert len({runtimes.MARKERS[runtime] for runtime in RUNTIMES}) == len(RUNTIMES)
