"""The search itself: sizes are timed, what keeps to the bound is trained, what falls behind ends early, and the
setting that is recommended is trained with other seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdcore.config import RunConfig
from kdcore.engine import preflight
from kdcore.errors import UserError
from kdcore.events import Event
from kdcore.search import record as records
from kdcore.search import scores
from kdcore.search.candidates import Candidate, Space, candidate_text, hash_of
from kdcore.search.costs import check_runtime, measure
from kdcore.search.question import Cost, Question
from kdcore.search.record import NO_TIME, SearchRecord
from kdcore.search.size_costs import Say, cost_key, take_costs
from kdcore.search.study import RUNGS, Study, Trial, first_new, optuna
from kdcore.search.training import Training
from kdcore.store import Store

if TYPE_CHECKING:
    from kdcore.runs.worker import Train

MOST_FAILURES = 5
"""Trials in a row that may fail before a search ends."""
TRIED, NOTHING_NEW = "was tried before", "nothing new was proposed"
NO_ROOM = "no trial fits into the time that is left"


def search(
    store: Store,
    question: Question,
    train: Train | None = None,
    say: Say = lambda words: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> SearchRecord:
    """Searches, or goes on where an earlier search of this name ended.

    train: in place of the engine, for tests. say: is told what happens, a line at a time.

    Raises:
        UserError: a package is not installed, a field of the question has no meaning, no size keeps to the bound, or
            the search of this name asked something else or is under way elsewhere.
    """
    optuna()
    check_runtime(question.bound)
    space = Space(question)
    if question.bound.share is not None and not space.run.teachers:
        raise UserError("bound.share", "there is no teacher to hold a student against", "name one under run.teachers")
    with records.folder_lock(question.name) as folder:
        record = _record(question, space, say)
        going = Search(store, space, record, Study(folder, question.name, question.seed), say)
        going.put_in_defaults()
        training = Training(
            store, question.name, going.propose, question.slots, train, going.tell_start, on_event
        )  # fmt: skip
        record.ended = ""
        training.go()
        going.choose()
        training.propose = going.propose_seed
        training.go()
        record.ended = going.why_over or NOTHING_NEW
        going.save()
    return record


def _record(question: Question, space: Space, say: Say) -> SearchRecord:
    """The record of an earlier search of this name, or a new one with its sizes timed."""
    asked = question.model_dump(mode="json")
    record = records.earlier(question)
    if record is not None:
        if other := {key.partition(" | ")[0] for key in record.costs} - set(space.sizes):
            raise UserError(
                "sizes", f"another version began {question.name}, in which a size was called {min(other)!r}",
                "choose another name: runs that are done are not trained again",
            )  # fmt: skip
        record.question = asked
        return record
    record = SearchRecord(asked)
    take_costs(record, question, space, say)
    records.write(question.name, record)
    return record


@dataclass
class Search:
    """A search under way. why_over: why no more trials were begun."""

    store: Store
    space: Space
    record: SearchRecord
    study: Study
    say: Say
    why_over: str = ""
    _left: list[Trial] = field(default_factory=list)
    _seeds: list[RunConfig] = field(default_factory=list)
    _before: int = 0
    _is_late: bool = False

    def __post_init__(self) -> None:
        self._left = [trial for trial in self.study.running() if self._goes_on(trial)]
        facts = self.study.facts()
        self._before = sum(bool(one.get("run")) for one in facts)
        self.known = {str(one["hash"]) for one in facts if "hash" in one and one["state"] != "fail"}

    @property
    def question(self) -> Question:
        return self.space.question

    def put_in_defaults(self) -> None:
        """Each method with its own options on each size that keeps to the bound: the dearest size first, since it is
        the likeliest to be good, and all sizes before the next method."""
        sizes = sorted(self._affordable(), key=lambda size: -self._cost(size, "").of(self.question.bound.axis))
        for method in self.space.methods:
            for size in sizes:
                self.study.enqueue(self._parameters(self.space.default(method, size)))

    def propose(self) -> TrialRun | None:
        """The next trial: one that was under way, else a new one while there is time."""
        if self._left:
            return self._again(self._left.pop(0))
        self.why_over = self._over()
        if self.why_over:
            return None
        found: TrialRun | None = first_new(self._ask)
        if found is None:
            self.why_over = self._over() or (NO_ROOM if self._is_late else NOTHING_NEW)
        return found

    def tell_start(self, run: str, name: str) -> None:
        self.say(f"{run}: {name}")

    # --- trials ---------------------------------------------------------------------------------------------------

    def _ask(self) -> TrialRun | None:
        """A trial that was not tried before and keeps to bound and time; else None, and it is told so."""
        if self._over():
            return None
        trial = self.study.ask()
        candidate = self._chosen(trial)
        trial.note(size=candidate.size, start=candidate.start, method=candidate.method, options=dict(candidate.options))
        try:
            run = self.space.run_of(candidate)
            if hash_of(run) in self.known:
                raise UserError("trial", TRIED, "")
            cost = self._cost_of(candidate, run)
            if limit := cost.exceeds(self.question.bound):
                raise UserError("bound", f"{limit} is {cost.of(limit):.4g}", "")
            report = preflight.check(self.space.plan(run))
            if report.blocks or report.forecast is None:
                line = report.blocks[0]
                raise UserError(line.field, line.text, line.remedy)
        except UserError as error:
            self._refuse(trial, candidate, error)
            return None
        if report.forecast.seconds > self._room():
            self._is_late = True
            self._refuse(trial, candidate, UserError("minutes", NO_TIME, ""))
            return None
        trial.note(hash=hash_of(run), predicted=report.forecast.seconds)
        self.known.add(hash_of(run))
        facts = {"predicted": {"seconds": report.forecast.seconds, "basis": report.forecast.basis,
                               "memory": report.forecast.memory_bytes}}  # fmt: skip
        return TrialRun(self, trial, run, cost, facts)

    def _refuse(self, trial: Trial, candidate: Candidate, error: UserError) -> None:
        if error.problem not in (NO_TIME, TRIED):
            self.record.refused[f"{candidate.method} on {candidate.size}"] = error.problem
        trial.note(why=error.problem)
        trial.end(pruned=error.problem != NO_TIME)  # so that less of its kind is proposed
        self.save()

    def _goes_on(self, trial: Trial) -> bool:
        """Whether a trial that was under way when the process was killed is still wanted."""
        noted = trial.noted
        if "hash" not in noted:  # killed before it was put into the queue
            trial.end()
            return False
        run = self.store.rows([str(noted.get("run"))]).get(str(noted.get("run")))
        stopped = run is not None and run.state == "stopped" and bool(noted.get("ended_early"))
        if stopped:
            trial.end(pruned=True)
        return not stopped

    def _again(self, trial: Trial) -> TrialRun:
        """A trial that was under way when the process was killed."""
        noted = trial.noted
        candidate = Candidate(noted["size"], noted["start"], noted["method"], tuple(noted["options"].items()))
        run = self.space.run_of(candidate)
        return TrialRun(self, trial, run, self._cost_of(candidate, run), {})

    def _chosen(self, trial: Trial) -> Candidate:
        size = trial.choice("size", self._affordable())
        starts = self.space.starts_of(size)
        start = trial.choice(f"start of {len(starts)}", starts) if len(starts) > 1 else starts[0]
        method = trial.choice("method", self.space.methods)
        options = {
            name: trial.value(f"{method}.{name}", values) for name, values in self.space.ranges(method).items()
        }  # fmt: skip
        return Candidate(size, start, method, tuple(options.items()))

    def _parameters(self, candidate: Candidate) -> dict[str, Any]:
        """The study's names of a candidate with its method's own options."""
        starts = self.space.starts_of(candidate.size)
        start = {f"start of {len(starts)}": candidate.start} if len(starts) > 1 else {}
        options = self.space.run_of(candidate).options
        named = {f"{candidate.method}.{name}": options[name] for name in self.space.ranges(candidate.method)}
        return {"size": candidate.size, "method": candidate.method} | start | named

    # --- costs and time -------------------------------------------------------------------------------------------

    def _affordable(self) -> tuple[str, ...]:
        """Sizes that keep to the bound with one method at least."""
        dear = self.record.too_dear
        return tuple(
            size for size in self.space.sizes
            if any(key not in dear and (key == size or key.startswith(f"{size} | ")) for key in self.record.costs)
        )  # fmt: skip

    def _cost(self, size: str, method: str) -> Cost:
        costs = self.record.costs
        key = f"{size} | {method}"
        named = next((name for name in (key, size) if name in costs), "")
        return Cost(**costs[named or next(name for name in costs if name.startswith(f"{size} | "))])

    def _cost_of(self, candidate: Candidate, run: RunConfig) -> Cost:
        """What a candidate costs; options may make its method deploy a size that was not timed yet."""
        plan = self.space.plan(run)
        if plan.deployed_size == plan.student_size and candidate.size in self.record.costs:
            return Cost(**self.record.costs[candidate.size])
        key = cost_key(self.space, candidate, plan.deployed_size)
        if key not in self.record.costs:
            tokens = min(self.space.tokens_of(candidate.size), plan.deployed_size.longest)
            timed = measure({key: plan.deployed_size}, self.question.bound, {key: tokens})
            self.record.costs[key] = timed.of[key].data()
            self.record.busy = self.record.busy or timed.busy
        return Cost(**self.record.costs[key])

    def _over(self) -> str:
        """Why no trial is begun any more; empty where one may be."""
        trials = [facts for facts in self.study.facts() if facts.get("run")]
        if self.question.trials is not None and len(trials) >= self.question.trials:
            return f"{len(trials)} trials were asked for"
        last = trials[self._before :][-MOST_FAILURES:]
        if len(last) == MOST_FAILURES and all(facts["state"] == "fail" for facts in last):
            return f"{MOST_FAILURES} trials in a row failed, the last as {last[-1]['run']}"
        return "" if self._room() > 0 else "the time is spent"

    def _room(self) -> float:
        """Seconds for another trial: what is left, without what the recommended setting's other seeds will take."""
        facts = self.study.facts()
        ended = [one for one in facts if one["state"] != "running"]
        paid, whole = scores.seconds(self.store, ended), 60 * self.question.minutes
        under_way = sum(float(one.get("predicted", 0)) for one in facts if one["state"] == "running" and "run" in one)
        done = [str(one["run"]) for one in facts if one["state"] == "complete"]
        return whole - paid - under_way - (self.question.seeds - 1) * scores.longest_training(self.store, done)

    # --- the end --------------------------------------------------------------------------------------------------

    def choose(self) -> None:
        """Which trial is recommended."""
        self.record.trials = self.study.facts()
        self.record.chosen = scores.best(self.store, self.record)
        self._seeds = []
        if self.record.chosen is not None:
            noted = self.record.trials[self.record.chosen]
            candidate = Candidate(noted["size"], noted["start"], noted["method"], tuple(noted["options"].items()))
            first = self.question.seed
            self._seeds = [self.space.run_of(candidate, first + i) for i in range(1, self.question.seeds)]
            self.record.seeds = [noted["run"]]
            self.say(f"recommended: {candidate_text(candidate)}; its other seeds")
        self.save()

    def propose_seed(self) -> SeedRun | None:
        return SeedRun(self, self._seeds.pop(0)) if self._seeds else None

    def save(self) -> None:
        self.record.trials = self.study.facts()
        records.write(self.question.name, self.record)


@dataclass
class TrialRun:
    """A trial, as `Training` takes it."""

    search: Search
    trial: Trial
    run: RunConfig
    cost: Cost
    facts: dict[str, Any]
    _reported: int = 0

    def starts(self, run_id: str, state: str) -> None:
        if "run" not in self.trial.noted:
            self.trial.note(run=run_id, reused=state == "done")
        self.search.save()

    def falls_behind(self, evaluations: pd.DataFrame) -> bool:
        behind = self._report(evaluations)
        if behind:
            self.trial.note(ended_early=True)
        return behind

    def _report(self, evaluations: pd.DataFrame) -> bool:
        """Tells the study how the student came on; whether it falls behind the others at its last evaluation."""
        plan = self.search.space.plan(self.run)
        judged = {stage.name for stage in plan.stages if stage.judge == "score" and not stage.pilot}
        behind = False
        for moment in scores.progress(evaluations, self.run.task, judged):
            part = int(RUNGS * moment.step / max(1, sum(plan.steps)))
            if part >= RUNGS:
                return False
            if part > self._reported:
                self._reported = part
                behind = self.trial.falls_behind(part, self._value(moment.score, evaluations)) or behind
        return behind

    def ends(self, run_id: str, state: str) -> None:
        score = scores.select_score(self.search.store, run_id)
        if state == "done" and score is not None:
            evaluations = self.search.store.evaluations(run_id)
            self._report(evaluations)  # later trials are compared with it at each rung
            self.trial.end(self._value(score, evaluations))
        else:
            pruned = state == "stopped" and bool(self.trial.noted.get("ended_early"))
            if not pruned:
                self.trial.note(why=f"the run {state}")
            self.trial.end(pruned=pruned)
        self.search.save()

    def _value(self, score: float, evaluations: pd.DataFrame) -> float:
        """What a trial is worth: its score; where a share is asked, above 1 by what it saves once it has the share, and
        below 1 by how near it comes."""
        bound, space = self.search.question.bound, self.search.space
        if bound.share is None:
            return score
        target = bound.share * scores.best_teacher(evaluations, space.run.task)
        if not target > 0:
            return score
        if score < target:
            return score / target
        dearest = max(Cost(**cost).of(bound.axis) for cost in self.search.record.costs.values())
        return 2 - self.cost.of(bound.axis) / dearest + score / 100  # of two as cheap ones the better


@dataclass
class SeedRun:
    """The recommended setting with another seed, as `Training` takes it."""

    search: Search
    run: RunConfig
    facts: dict[str, Any] = field(default_factory=dict)

    def starts(self, run_id: str, state: str) -> None:
        if run_id not in self.search.record.seeds:
            self.search.record.seeds.append(run_id)

    def falls_behind(self, evaluations: pd.DataFrame) -> bool:
        return False

    def ends(self, run_id: str, state: str) -> None:
        self.search.save()
