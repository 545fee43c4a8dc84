"""What a search found, for people: the table of its trials, its front, and what it recommends with how much doubt."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdcore.analysis import pareto
from kdcore.analysis.row_scores import contributions_of
from kdcore.formatting import amount, duration, listed
from kdcore.search import scores
from kdcore.search.question import MEASURES, Measure
from kdcore.search.record import NO_TIME, SearchRecord

if TYPE_CHECKING:
    from kdcore.store import Store

STATES = {
    "complete": "trained", "pruned": "ended early", "running": "under way", "waiting": "not begun", "fail": "refused",
}  # fmt: skip


@dataclass(frozen=True)
class SearchResult:
    """A search, with what the store knows of its runs."""

    store: Store
    record: SearchRecord

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Rows of `Store.runs` by id: of the trials, and of the recommended setting's other seeds."""
        trained = [trial["run"] for trial in self.record.trials if trial.get("run")]
        return scores.columns(self.store, dict.fromkeys([*trained, *self.record.seeds]))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The trials that were begun, the best on `select` first.

        Columns: number, run, size, start, method, options, state, select (fraction; of one that ended early as far as
        it came), cost (of the bound's axis), p50_ms, p95_ms, parameters, disk_mib, seconds, predicted, front (no
        complete trial is at least as cheap and at least as good), chosen.
        """
        rows = [self._row(trial) for trial in self.record.trials if trial.get("run")]
        columns = ["number", "run", "size", "start", "method", "options", "state", "select", "cost", *MEASURES,
                   "seconds", "predicted", "front", "chosen"]  # fmt: skip
        frame = pd.DataFrame(rows, columns=columns)
        whole = frame["state"] == STATES["complete"]
        frame["front"] = False
        frame.loc[whole, "front"] = pareto.front(frame.loc[whole, "cost"], frame.loc[whole, "select"].astype(float))
        order = pd.DataFrame({"whole": ~whole, "select": -frame["select"].astype(float)})
        return frame.loc[order.sort_values(["whole", "select"], kind="stable").index].reset_index(drop=True)

    @cached_property
    def chosen(self) -> dict[str, Any] | None:
        """The trial that is recommended."""
        return None if self.record.chosen is None else self.record.trials[self.record.chosen]

    def sentences(self) -> list[str]:
        """What came out, a sentence an item: recommendation and cost, scores and doubt, what was left out, price."""
        return [*self._recommendation(), *self._doubt(), *self._left_out(), self._price()]

    def _row(self, trial: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.loc[trial["run"]] if trial["run"] in self.runs.index else {}
        cost = scores.cost_of(self.record, trial)
        options = ", ".join(f"{name} {_number(value)}" for name, value in trial["options"].items())
        return {
            **{name: trial[name] for name in ("number", "run", "size", "start", "method")}, "options": options,
            "state": STATES.get(trial["state"], trial["state"]), "select": run.get("select_score"),
            "cost": cost.of(self.record.asked.bound.axis), **cost.data(), "seconds": run.get("seconds"),
            "predicted": trial.get("predicted"), "chosen": trial["number"] == self.record.chosen,
        }  # fmt: skip

    def _recommendation(self) -> Iterator[str]:
        bound, chosen = self.record.asked.bound, self.chosen
        if chosen is None:
            yield "Nothing is recommended: no trial was trained to its end."
            return
        cost = scores.cost_of(self.record, chosen)
        wanted = [f"{cost_text(measure, cost.of(measure))}, {cost_text(measure, limit, False)} are allowed"
                  for measure, limit in bound.limits.items()]  # fmt: skip
        if bound.axis not in bound.limits:
            wanted.append(cost_text(bound.axis, cost.of(bound.axis)))
        yield f"Recommended: {chosen['method']} on {chosen['size']}, {chosen['start']} ({'; '.join(wanted)})."
        if bound.is_timed:
            count = bound.threads
            counted = f"{count} thread{'' if count == 1 else 's'}" if count else "torch's own number of threads"
            lengths = {int(one.get("tokens") or self.record.tokens) for one in self.record.costs.values()}
            read = (
                ""
                if lengths == {self.record.tokens}
                else f" ({min(lengths)} to {max(lengths)} in their own vocabularies)"
            )
            yield (
                f"Latencies are of students with new weights, on {bound.runtime}, batch {bound.batch}, "
                f"{self.record.tokens} tokens{read}, {counted}, {self.record.hardware}: "
                "what is learned does not change them."
            )
        if bound.is_timed and self.record.busy:
            yield "Other work used the machine meanwhile: do not rely on the latencies, search again when it is quiet."

    def _doubt(self) -> Iterator[str]:
        """Over seeds, and over rows."""
        if self.chosen is None:
            return
        members = self.runs.loc[[run for run in self.record.seeds if run in self.runs.index]]
        members = members[members["state"] == "done"]
        on_select = [float(value) for value in members["select_score"].dropna()]
        if on_select:
            yield f"On select it scores {_spread(on_select)}{self._beside_teacher(on_select)}."
            yield (
                f"Of {len(self.trials)} trials the best on select was taken, so that score is a little too good; "
                "the dev rows below took part in no decision."
            )
        on_dev = [float(value) for value in members["score"].dropna()]
        if on_dev:
            yield f"On the dev rows it scores {_spread(on_dev)}{self._row_doubt(members)}."
        if len(members) < 3:
            yield "Fewer than three seeds say little of what another one would give."

    def _beside_teacher(self, on_select: list[float]) -> str:
        share, teacher = self.record.asked.bound.share, self.teacher
        if not teacher > 0:
            return ""
        reached = statistics.fmean(on_select) / teacher
        text = f", {100 * reached:.1f} % of the best teacher's {100 * teacher:.1f}"
        if share is None:
            return text
        if reached < share:
            best = self.trials.loc[self.trials["state"] == STATES["complete"], "select"].astype(float).max()
            why = "some seeds reach it" if best >= share * teacher else "no trial reached it in this time"
            return f"{text}: less than the {100 * share:g} % asked for; {why}"
        below = sum(value < share * teacher for value in on_select)
        return f"{text} ({100 * share:g} % are asked for" + (f"; {below} of the seeds fall below)" if below else ")")

    @cached_property
    def teacher(self) -> float:
        """The best teacher's score on `select`; NaN where none was scored."""
        done = [trial["run"] for trial in self.record.trials
                if trial["state"] == "complete" and trial["run"] in self.runs.index]  # fmt: skip
        return scores.best_teacher(self.store.evaluations(done[:1]), str(self.record.asked.run["task"]))

    def _row_doubt(self, members: pd.DataFrame) -> str:
        """The standard error that the number of dev rows alone leaves."""
        run = members.iloc[0]
        known = contributions_of(str(run.name), str(run["task"]), str(run["metric"]))
        if known is None or len(known.values) < 2:
            return ""
        error = 100 * float(known.values.std(ddof=1)) / len(known.values) ** 0.5
        return f"; other {len(known.values)} rows would move that by ± {error:.1f} (one standard error)"

    def _left_out(self) -> Iterator[str]:
        record = self.record
        if record.too_dear:
            yield f"Never trained, since they exceed the bound: {listed(map(_deployed, record.too_dear), 12)}."
        begun = {_pair(trial) for trial in record.trials if trial.get("run")}
        late = [
            _pair(trial) for trial in record.trials
            if (trial["state"] == "waiting" or trial.get("why") == NO_TIME) and _pair(trial) not in begun
        ]  # fmt: skip
        if late:
            yield f"Not tried, for lack of time: {listed(dict.fromkeys(late), 8)}."
        if refused := {pair: why for pair, why in record.refused.items() if pair not in begun}:
            yield f"Cannot be trained: {listed((f'{what} ({why})' for what, why in refused.items()), 4)}."

    def _price(self) -> str:
        begun = [trial for trial in self.record.trials if trial.get("run")]
        new = [trial for trial in begun if not trial.get("reused")]
        predicted = sum(float(trial.get("predicted") or 0) for trial in new)
        paid = scores.seconds(self.store, new)
        others = scores.seconds(self.store, [{"run": run} for run in self.record.seeds[1:]])
        early = sum(trial["state"] == "pruned" for trial in begun)
        known = len(begun) - len(new)
        return (
            f"Price: {len(begun)} trials, {early} ended early{f', {known} were there before' if known else ''}; "
            f"predicted {duration(predicted)} to their ends, paid {duration(paid)}, and {duration(others)} for the "
            f"other seeds, of {self.record.asked.minutes:g} min. "
            f"{f'It ended since {self.record.ended}.' if self.record.ended else 'It is not over.'}"
        )


def cost_text(measure: Measure, value: float, named: bool = True) -> str:
    """A cost for people: `p95 latency 3.2 ms`, `11.8 M parameters`, `45.2 MiB on disk`; not named, the number alone."""
    if measure == "parameters":
        return f"{amount(value)} parameters" if named else amount(value)
    if measure == "disk_mib":
        return f"{value:.3g} MiB on disk" if named else f"{value:.3g} MiB"
    return f"{MEASURES[measure].removesuffix(' (ms)')} {value:.3g} ms" if named else f"{value:.3g} ms"


def _pair(trial: dict[str, Any]) -> str:
    return f"{trial['method']} on {trial['size']}"


def _deployed(key: str) -> str:
    """`3 layers | pea-kd` as `3 layers by pea-kd`."""
    return key.replace(" | ", " by ")


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _spread(values: list[float]) -> str:
    mean = 100 * statistics.fmean(values)
    return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f} ({len(values)} seeds)" if len(values) > 1 else (
        f"{mean:.1f} (one seed)")  # fmt: skip
