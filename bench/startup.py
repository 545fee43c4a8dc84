"""How long one waits: for `import kdcore`, for the command line's help, for the dashboard's first page in Chromium.

    python -m bench.startup

Each is a process of its own, in turn. After the first round (given apart, `first_s`) the system holds the files in
memory. The dashboard, with an empty store: until the server answers, until the first page of a fresh browser is drawn,
and the same page opened once more. Chromium's own start is not counted. Writes bench/results/startup.json.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from typing import Any

from bench.timing_blocks import Arm, Figures, command_line, figures, parse_options, ratios, spread, start_bench

COMMANDS = {
    "python": ("-c", "pass"), "import kdcore": ("-c", "import kdcore"), "help": ("-m", "kdcore", "--help"),
    "import torch and transformers": ("-c", "import torch, transformers"),
}  # fmt: skip
"""What is started; the first is Python alone, the last what the first two spare."""
PAGES = ("server_s", "first_page_s", "second_page_s")


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(command_line(__doc__, rounds=7), arguments)
    bench = start_bench("startup", arguments, options, ("streamlit", "plotly", "playwright"))
    arms: dict[str, Arm] = {name: partial(time_command, *command) for name, command in COMMANDS.items()}
    blocks = bench.in_turn({**arms, "dashboard": dashboard}, options.rounds)
    bench.finish(_summary(blocks), blocks)


def time_command(*options: str) -> Figures:
    """Seconds of a Python with these arguments, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *options], check=True, capture_output=True)
    return {"seconds": round(time.perf_counter() - began, 4)}


def dashboard() -> Figures:
    """Seconds from the command to a server that answers, then to a drawn page, then to the next one."""
    from bench.dashboard import browser, cache, dashboard_server, wait_until_drawn

    with cache(), browser() as context:
        began = time.perf_counter()
        with dashboard_server() as (url, _):
            times = [time.perf_counter()]
            for _ in range(2):
                page = context.new_page()
                page.goto(url)
                wait_until_drawn(page)
                times.append(time.perf_counter())
                page.close()
    return {name: round(end - start, 4) for name, start, end in zip(PAGES, [began, *times], times, strict=False)}


def _summary(blocks: list[Figures]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name in COMMANDS:
        seconds = figures(blocks, name, "seconds")
        summary[name] = {
            "first_s": seconds[0], "seconds": spread(seconds),
            "to_python_alone": ratios(seconds, figures(blocks, "python", "seconds")),
        }  # fmt: skip
        print(f"{name:32} {summary[name]['seconds']['median']:.3f} s")
    for name in PAGES:
        seconds = figures(blocks, "dashboard", name)
        summary[f"dashboard, {name.removesuffix('_s').replace('_', ' ')}"] = {
            "first_s": seconds[0], "seconds": spread(seconds),
        }  # fmt: skip
        print(f"{'dashboard, ' + name:32} {spread(seconds)['median']:.3f} s")
    return {"summary": summary}


if __name__ == "__main__":
    main()
