"""The command line `kdcore`, or `python -m kdcore`. Commands import what they need when they run: `--help` is quick.

Exit codes: 0 done, 1 a run failed or was interrupted, 2 the input is wrong, 130 Ctrl-C.
"""

from __future__ import annotations

from kdcore.cli import cache, export, inspect, method_files, publish, report, runtimes, search, training, work
from kdcore.cli.console import new_app

app = new_app("Compare distillation methods for BERT: train, look, sweep, export.")
inspect.register(app)
method_files.register(app)
training.register(app)
work.register(app)
search.register(app)
export.register(app)
publish.register(app)
runtimes.register(app)
report.register(app)
cache.register(app)

__all__ = ["app"]
