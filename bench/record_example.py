"""Records the example study that comes with the program, on this machine and with this version.

    python -m bench.record_example CACHE

The one-minute demo's runs and those of the lessons, with three seeds, and what the teacher scores when it is compressed
without training: real runs on generated sentences, ten minutes. Of the first seed, students are shipped, and the
snapshots of the demo's runs. CACHE is the cache folder that is trained in; started again after a break, runs that are
done there are kept. The folder `kdcore/runs/example_study/` is replaced, unless the study does not show what it is
there to show: its method ahead of fine-tuning alone on every seed, and no student at the score of a blind guess.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bench.dashboard import machine
from kdcore import __version__
from kdcore.analysis.blind_guess import blind_guess_of
from kdcore.config import RunConfig
from kdcore.engine.evaluate import is_blind_guess
from kdcore.identity import config_hash
from kdcore.paths import run_dir
from kdcore.runs import example
from kdcore.runs.demo import LARGE, METHODS, STORY, demo_run
from kdcore.runs.remeasure import Order, Remeasurer
from kdcore.runs.worker import Worker
from kdcore.store import Store, open_store
from pages.parts.learn.lessons import lessons

SEEDS = (0, 1, 2)
DEV_ROWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder to train in; runs that are done there are kept")
    os.environ["KD_CACHE_DIR"] = str(parser.parse_args().cache.resolve())
    store = open_store()
    store.mark_interrupted()
    made = {run_id: part for run, part in study() for run_id in [_train(store, run, part)]}
    if flaws := flaws_of(_scores(store, made)):
        raise SystemExit("Not recorded. " + " ".join(flaws))
    _measure_baselines(store, made)
    _record(store, made)


def study() -> Iterator[tuple[RunConfig, str | None]]:
    """Each run, and the lesson that it belongs to: None for those of the demo, which are compared first.

    The newest run of a name is the one that a lesson looks into, so that of the first seed comes last.

    >>> len({config_hash(run) for run, _ in study()}) == len(list(study()))
    True
    """
    seen = set()
    for seed in reversed(SEEDS):
        for method in METHODS:
            run = demo_run(method, seed=seed, name=f"example {method} seed {seed}")
            seen.add(config_hash(run))
            yield run, None
    for key, lesson in lessons().items():
        for seed in reversed(SEEDS):
            for run in lesson.configs(seed).values():
                if config_hash(run) not in seen:
                    seen.add(config_hash(run))
                    yield run, key


def with_students() -> set[str]:
    """Hashes of the runs whose student is shipped: what a page looks into. All students would weigh too much."""
    demo = [demo_run(method) for method in METHODS]
    looked_into = [
        run for lesson in lessons().values() for name, run in lesson.configs().items()
        if name in {step.run for step in lesson.steps}
    ]  # fmt: skip
    return {config_hash(run) for run in [*demo, *looked_into]}


def flaws_of(scores: pd.DataFrame) -> list[str]:
    """Why a study may not be shown, one sentence each; empty where it may.

    Args:
        scores: one row a run, columns part (None for the runs that are compared first), method, seed, score and guess
            (accuracy as fractions; guess: that of a blind guess), rows (dev rows scored).
    """
    flaws = [
        f"{row['method']}, seed {row['seed']}: {100 * row['score']:.1f} is no better than a blind guess."
        for row in scores.to_dict("records")
        if is_blind_guess("accuracy", row["score"], row["guess"], row["rows"])
    ]
    first = scores[scores["part"].isna()].pivot_table(index="seed", columns="method", values="score")
    for seed, row in first.iterrows():
        if not row.get(STORY, float("nan")) > row["fine-tune"]:
            flaws.append(f"{STORY}, seed {seed}: not ahead of fine-tuning alone ({100 * row['fine-tune']:.1f}).")
    return flaws


def _train(store: Store, run: RunConfig, part: str | None) -> str:
    """The run's id, once it is done; one that is done already is kept."""
    run_id, state = store.ensure(run, sweep=part)
    if state != "done":
        worker = Worker(store, "auto")
        worker.take(run_id)
        worker.drive(run_id)
    row = store.get(run_id)
    print(run_id, row.state, flush=True)
    if row.state != "done":
        raise SystemExit(row.detail)
    return run_id


def _scores(store: Store, made: dict[str, str | None]) -> pd.DataFrame:
    finished = store.runs().set_index("id").loc[list(made)]
    guesses = [blind_guess_of(store.get(run_id).facts, "accuracy") for run_id in made]
    own = pd.DataFrame({"part": pd.Series(made, dtype=object), "guess": guesses, "rows": DEV_ROWS}, index=list(made))
    return finished[["method", "seed", "score"]].join(own)


def _measure_baselines(store: Store, made: dict[str, str | None]) -> None:
    """The teacher as it is when cut or quantised without training, beside the student of the story's first seed."""
    story = config_hash(demo_run(STORY))
    (run,) = [run for run in made if config_hash(store.get(run).config) == story]
    if "rivals" in store.probes(run):
        return
    measurer = Remeasurer()
    measurer.begin(store, [Order(run, run, LARGE.name)])
    measurer.wait(600)
    problems = measurer.problems("latency")
    if problems or "rivals" not in store.probes(run):
        raise SystemExit(f"The teacher's compression baselines were not measured: {list(problems.values())}")


def _record(store: Store, made: dict[str, str | None]) -> None:
    facts = {"kdcore": __version__, "recorded": datetime.date.today().isoformat(), **machine()}
    whole, demo = with_students(), {config_hash(demo_run(method)) for method in METHODS}
    for run_id in made:
        note = f"Recorded with KDBoard {__version__} on {facts['hardware']}, {facts['recorded']}."
        shutil.rmtree(run_dir(run_id) / "student-last", ignore_errors=True)  # pages load the best by select
        settings = config_hash(store.get(run_id).config)
        if settings not in whole:
            note += " Its student is left out to keep the example small."
            shutil.rmtree(run_dir(run_id) / "student-best", ignore_errors=True)
        if settings not in demo:
            shutil.rmtree(run_dir(run_id) / "probes/snapshots", ignore_errors=True)
        store.annotate(run_id, note, [example.TAG])
    compared = [run_id for run_id, part in made.items() if part is None]
    example.record(store, list(made), compared[::-1], facts)  # pages about one run open the first, which has a student


if __name__ == "__main__":
    main()
