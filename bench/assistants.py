"""How long a chain of teacher assistants takes to train, here and in another commit, the two in turn.

    KD_GLUE_DIR=... python -m bench.assistants COMMIT

One and a half epochs of the rows: a teacher of 6 layers, assistants of depths between, a student of 2 layers. Nothing
is kept from one block to the next, so that each model's answers are paid for in the block. Each block is a fresh
process over its own commit's files. Writes bench/results/assistants.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.first_paint import ROOT, check_out, commit_name
from bench.timing_blocks import Figures, command_line, figures, parse_options, ratios, spread, start_bench

ASSISTANTS = (1, 2)
EPOCHS = 1.5
TRAIN = """
import json, sys
from pathlib import Path
from bench.fixtures import Subject, time_cold_run
about = json.loads(sys.argv[1])
subject = Subject(Path(about["home"]), about["task"], about["rows"], about["threads"])
run = subject.run("takd", (6,), 2, {"assistants": about["assistants"]}, epochs=about["epochs"])
print(json.dumps(time_cold_run(run, subject.home)))
"""


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__doc__, rounds=1, rows=1000)
    parser.add_argument("commit", help="the other commit, a name that git knows")
    options = parse_options(parser, arguments)
    about = {"task": options.task, "rows": options.rows, "threads": options.threads, "epochs": EPOCHS}
    with TemporaryDirectory(prefix="kdboard-bench-") as there:
        check_out(options.commit, Path(there))
        bench = start_bench(
            "assistants", arguments, options, epochs=EPOCHS,
            commits={name: commit_name(name) for name in ("HEAD", options.commit)},
        )  # fmt: skip
        arms = {
            f"{where}, {count}": partial(train_in, root, {**about, "assistants": count})
            for count in ASSISTANTS
            for where, root in (("here", ROOT), ("there", Path(there)))
        }
        blocks = bench.in_turn(arms, options.rounds)
    bench.finish(_summary(blocks), blocks)


def train_in(root: Path, about: dict[str, Any]) -> Figures:
    """Figures of a run that the files in `root` train."""
    with TemporaryDirectory(prefix="kdboard-bench-") as home:
        command = [sys.executable, "-c", TRAIN, json.dumps({**about, "home": home})]
        environment = os.environ | {"PYTHONPATH": str(root)}
        done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def _summary(blocks: list[Figures]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for count in ASSISTANTS:
        here, there = (figures(blocks, f"{where}, {count}", "seconds") for where in ("here", "there"))
        summary[f"assistants: {count}"] = {
            "here_s": spread(here), "there_s": spread(there), "here_to_there": ratios(here, there),
        }  # fmt: skip
        print(f"{count} assistant(s): {ratios(here, there)['median']:.2f} of there")
    return {"summary": summary}


if __name__ == "__main__":
    main()
