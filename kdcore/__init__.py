"""KDBoard's engine: methods, trainer, probes, store and figures for comparing BERT distillation methods.

Importing this package is fast: torch and transformers are imported by the modules that use them, and what is named in
`__all__` with its first use. docs/python.md shows how to train, sweep and compare from Python.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcore import figures
    from kdcore.api import Run, compare, plot_scores, plot_terms, run, sweep
    from kdcore.config import ProbeConfig, RunConfig, StudentSpec, TeacherSpec, TrainConfig
    from kdcore.engine.trainer import train
    from kdcore.errors import UserError
    from kdcore.methods.catalog import add_files
    from kdcore.store import open_store

__version__ = "0.1.0"

# Threads that wait for one another spin for a moment only, then sleep. By default torch's OpenMP lets them spin long:
# as soon as anything else uses the machine (the browser that watches the run is enough) they take each other's cores,
# and steps were seen to take a hundred times longer. Sleeping at once would cost small models half of their speed.
# OpenMP reads this once, when torch is imported, which is later than this line.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

_HOMES = {
    "figures": "kdcore.figures",
    **dict.fromkeys(("Run", "compare", "plot_scores", "plot_terms", "run", "sweep"), "kdcore.api"),
    **dict.fromkeys(("ProbeConfig", "RunConfig", "StudentSpec", "TeacherSpec", "TrainConfig"), "kdcore.config"),
    "train": "kdcore.engine.trainer",
    "UserError": "kdcore.errors",
    "add_files": "kdcore.methods.catalog",
    "open_store": "kdcore.store",
}
"""Public name -> the module that has it."""

__all__ = [
    "ProbeConfig", "Run", "RunConfig", "StudentSpec", "TeacherSpec", "TrainConfig", "UserError", "__version__",
    "add_files", "compare", "figures", "open_store", "plot_scores", "plot_terms", "run", "sweep", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if name == "figures" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
