"""What bench/search_evidence.py found, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdcore.search.question import MEASURES
from kdcore.search.result import cost_text

Facts = Mapping[str, Any]
STATES = {"complete": "trained", "pruned": "ended early", "fail": "failed", "running": "under way"}
BUSY = (
    "**Timed beside other work.** The latencies below were taken on a busy machine: do not rely on them, nor on the "
    "order of two that are near. Seconds of training are those of a busy machine, too."
)


def page(name: str, content: Facts) -> str:
    """The whole file. content: as the JSON holds it."""
    parts = [
        f"# {name}", _machine(content), *([BUSY] if _is_busy(content) else []), _question(content), _verdict(content),
        _sides(content), "## What the search says", "\n".join(f"* {words}" for words in content["search"]["words"]),
        "## The grid", "Each method with its own options, one seed, the best on select first.", _grid(content),
        "## Deployed", "The exported students and their teacher, timed in turn, each on its own tokens of one row.",
        _deployed(content),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _is_busy(content: Facts) -> bool:
    return bool(content["busy"] or content["deployed"]["busy"])


def _machine(content: Facts) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in content["versions"].items())
    return f"{content['hardware']}, Python {content['python']}, {versions}. `{content['command']}`"


def _question(content: Facts) -> str:
    asked = content["question"]
    bound = asked["bound"]
    wanted = [f"{cost_text(measure, bound[measure])} at most" for measure in MEASURES if bound[measure] is not None]
    if bound["share"] is not None:
        wanted.append(f"at least {100 * bound['share']:g} % of the teacher's {_score(content['teacher'])} on select")
    least = f", the least {MEASURES[bound['least']]}" if bound["least"] else ""
    threads = f"{bound['threads']} thread(s)" if bound["threads"] else "torch's own number of threads"
    return (
        f"Asked: {asked['run']['task']}, {' and '.join(wanted)}{least} on {bound['runtime']}, {threads}, batch "
        f"{bound['batch']}, {content['tokens']} tokens a row. {len(content['sizes'])} sizes, methods "
        f"{', '.join(asked['methods'])}; {asked['minutes']:g} minutes of training for the search."
    )


def _verdict(content: Facts) -> str:
    """Whether both recommend one student, and what each paid."""
    found, grid = content["search"], content["grid"]
    one, two = found["recommended"], grid["recommended"]
    if one is None or two is None:
        return f"**{'The search' if one is None else 'The grid'} recommends nothing.**"
    before = f", {_minutes(grid['paid_before'])} of them done before" if grid.get("paid_before") else ""
    price = (
        f"The search paid {_minutes(found['paid'])} minutes for its trials, the grid {_minutes(grid['paid'])}{before}."
    )
    if (one["size"], one["method"], one["start"]) == (two["size"], two["method"], two["start"]):
        options = "" if one["run"] == two["run"] else ", the search with options that it chose"
        return f"**Both recommend {two['method']} on {two['size']}{options}.** {price}"
    axis = _axis(content)
    words = [f"{_score(_mean(side['select']))} on select, {_score(_mean(side['dev']))} on the dev rows, "
             f"{cost_text(axis, side[axis])}" for side in (one, two)]  # fmt: skip
    return (
        f"**They differ.** The search recommends {one['method']} on {one['size']} ({words[0]}), the grid "
        f"{two['method']} on {two['size']} ({words[1]}). {price}"
    )


def _axis(content: Facts) -> Any:
    bound = content["question"]["bound"]
    return bound["least"] or next((measure for measure in MEASURES if bound[measure] is not None), "p50_ms")


def _sides(content: Facts) -> str:
    rows = [("", "search", "grid")]
    rows += [(name, *(cell(content, content[side]) for side in ("search", "grid"))) for name, cell in _CELLS.items()]
    return _table(rows)


def _named(content: Facts, side: Facts) -> str:
    chosen = side["recommended"]
    if chosen is None:
        return "nothing"
    options = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                        for name, value in chosen["options"].items())  # fmt: skip
    return f"{chosen['method']}{f' ({options})' if options else ''}, {chosen['size']}, {chosen['start']}"


def _limit(content: Facts, side: Facts) -> str:
    limit = content["question"]["bound"][_axis(content)]
    return "as little as possible" if limit is None else f"at most {limit:g}"


def _cost(content: Facts, side: Facts) -> str:
    value = (side["recommended"] or {}).get(_axis(content))
    return "–" if value is None else f"{value:.4g}"


def _latency(content: Facts, side: Facts) -> str:
    model = content["deployed"]["models"].get((side["recommended"] or {}).get("run"))
    return f"{model['p50_ms']:.3g} and {model['p95_ms']:.3g}" if model else "–"


def _scores(which: str) -> Any:
    def cell(content: Facts, side: Facts) -> str:
        values = (side["recommended"] or {}).get(which) or []
        if not values:
            return "–"
        spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
        share = f", {100 * _mean(values) / content['teacher']:.1f} % of the teacher" if which == "select" and (
            content["teacher"] > 0) else ""  # fmt: skip
        return f"{_score(_mean(values))}{spread} ({len(values)} seeds){share}"

    return cell


def _int8(content: Facts, side: Facts) -> str:
    model = content["deployed"]["models"].get((side["recommended"] or {}).get("run"))
    check = model and model["onnx"]
    if not check or check["int8_same"] is None:
        return "–"
    scored = [f"{metric} {_score(value)}" for values in check["int8"].values() for metric, value in values.items()]
    return f"{', '.join(scored)}; {100 * check['int8_same']:.1f} % the same answers"


_CELLS: dict[str, Any] = {
    "recommended": _named,
    "its cost by what was asked, new weights": _cost,
    "the bound on it": _limit,
    "trained and exported, p50 and p95 (ms)": _latency,
    "on select": _scores("select"),
    "on the dev rows": _scores("dev"),
    "int8 file on the dev rows, first seed": _int8,
    "runs (ended early; done before)": lambda _, side: f"{side['trials']} ({side['ended_early']}; {side['reused']})",
    "predicted for the trials' ends (min)": lambda _, side: _minutes(side["predicted"]) if side["predicted"] else "–",
    "paid for the trials (min)": lambda _, side: _minutes(side["paid"]),
    "paid for the recommendation's other seeds (min)": lambda _, side: _minutes(side["other_seeds"]),
}
"""Row of the table -> what a side has there."""


def _grid(content: Facts) -> str:
    axis, tried = _axis(content), content["search"]["tried"]
    rows = [("method", "size", "start", MEASURES[axis], "select", "% of the teacher", "seconds", "in the search")]
    for cell in content["grid"]["cells"]:
        share = 100 * cell["select"] / content["teacher"] if cell["select"] and content["teacher"] > 0 else None
        rows.append((
            f"**{cell['method']}**" if cell["chosen"] else cell["method"], cell["size"], cell["start"],
            f"{cell['cost']:.4g}", _score(cell["select"]), "–" if share is None else f"{share:.1f}",
            "–" if cell["seconds"] is None else f"{cell['seconds']:.0f}",
            STATES.get(tried.get(cell["run"], ""), "not tried"),
        ))  # fmt: skip
    return _table(rows)


def _deployed(content: Facts) -> str:
    """Tokens are each model's own of one row; files of older versions have one length for all."""
    rows = [("model", "tokens", "p50 (ms)", "p95 (ms)", "rounds")]
    rows += [(name, str(one.get("tokens", content["tokens"])), f"{one['p50_ms']:.3g}", f"{one['p95_ms']:.3g}",
              str(one["rounds"])) for name, one in content["deployed"]["models"].items()]  # fmt: skip
    return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    lines: Iterator[str] = (f"| {' | '.join(row)} |" for row in rows)
    head = next(lines)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *lines])


def _mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def _score(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.1f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"
