"""How long until a page can be used, here and in another commit: every page opened in Chromium, the two in turn.

    python -m bench.first_paint COMMIT

Each block is a server of its own in a fresh process, over the example that its commit ships; Start is opened first and
not counted, so that the server has loaded its libraries. `first_s` is a page's first opening, `again_s` its second one:
until its script has ended, nothing on it is stale and every plot is drawn. `answer_s` is the first opening until what
the page is for is seen, in this commit alone. Writes bench/results/first_paint.json.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.timing_blocks import Figures, command_line, figures, parse_options, ratios, spread, start_bench

ROOT = Path(__file__).resolve().parents[1]
FILL = "from kdcore.runs import example; from kdcore.store import open_store; example.open_study(open_store())"
QUICK = ("", "speed")
"""Pages with `--quick`."""


def main(arguments: list[str] | None = None) -> None:
    from tests.e2e.test_answer_first import ANSWERS

    parser = command_line(__doc__, rounds=7)
    parser.add_argument("commit", help="the other commit, a name that git knows")
    options = parse_options(parser, arguments)
    pages = QUICK if options.quick else tuple(ANSWERS)
    packages = ("streamlit", "plotly", "playwright")
    with TemporaryDirectory(prefix="kdboard-bench-") as folder:
        check_out(options.commit, Path(folder))
        bench = start_bench(
            "first_paint", arguments, options, packages,
            commits={name: commit_name(name) for name in ("HEAD", options.commit)},
        )  # fmt: skip
        arms = {
            "here": partial(open_pages, ROOT, {page: ANSWERS[page] for page in pages}),
            "there": partial(open_pages, Path(folder), dict.fromkeys(pages)),
        }
        blocks = bench.in_turn(arms, options.rounds)
    bench.finish(_summary(blocks, pages), blocks)


def check_out(commit: str, folder: Path) -> None:
    """The files of a commit, without a link to the checkout's history."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")


def open_pages(root: Path, answers: dict[str, str | None]) -> Figures:
    """Seconds of each page: `<page> first_s`, `again_s`, and where its answer is known by a selector `answer_s`."""
    from bench.dashboard import browser, cache, dashboard_server, wait_until_drawn

    found: Figures = {}
    with cache(), browser() as context:
        subprocess.run([sys.executable, "-c", FILL], cwd=root, env=os.environ, check=True, capture_output=True)
        with dashboard_server(root) as (url, _):
            first = context.new_page()
            first.goto(url)
            wait_until_drawn(first)
            first.close()
            for opening in ("first_s", "again_s"):
                for page, answer in answers.items():
                    tab = context.new_page()
                    began = time.perf_counter()
                    tab.goto(f"{url}/{page}")
                    if answer and opening == "first_s":
                        tab.locator(answer).first.wait_for(state="visible")
                        found[f"{_name(page)} answer_s"] = round(time.perf_counter() - began, 4)
                    wait_until_drawn(tab)
                    found[f"{_name(page)} {opening}"] = round(time.perf_counter() - began, 4)
                    tab.close()
    return found


def _name(page: str) -> str:
    return page or "start"


def commit_name(name: str) -> str:
    done = subprocess.run(["git", "rev-parse", "--short", name], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _summary(blocks: list[Figures], pages: tuple[str, ...]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for page in map(_name, pages):
        summary[page] = {"answer_s": spread(figures(blocks, "here", f"{page} answer_s"))}
        for opening in ("first_s", "again_s"):
            here, there = (figures(blocks, arm, f"{page} {opening}") for arm in ("here", "there"))
            summary[page] |= {opening: spread(here), f"{opening.removesuffix('_s')}_to_there": ratios(here, there)}
        first = summary[page]["first_to_there"]
        print(f"{page:10} {summary[page]['first_s']['median']:.2f} s, {first['median']:.2f} of there")
    return {"summary": summary}


if __name__ == "__main__":
    main()
