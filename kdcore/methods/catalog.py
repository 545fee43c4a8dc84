"""The methods there are, as a table: key, title, family, papers and idea, read from their files without running them.

A method's file imports torch, which takes seconds; lists, labels and legends need only its name. What stands here is
therefore read from the text of the class, where key, title, family and papers are literals. Methods from outside are
found by `outside`.
"""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

from kdcore.config import MethodSource, RunConfig
from kdcore.errors import UserError
from kdcore.methods import outside
from kdcore.methods.info import FAMILIES, NO_PAPER, MethodInfo, read_info

__all__ = [
    "FAMILIES",
    "MODULES",
    "NO_PAPER",
    "MethodInfo",
    "add_files",
    "built_in",
    "catalog",
    "check_source",
    "outside_methods",
    "read_info",
    "source_of",
    "title_of",
]  # fmt: skip

MODULES = (
    "fine_tune", "kd", "takd", "annealing_kd", "peers", "distilbert", "pkd", "bert_emd", "alp_kd", "pea_kd", "tinybert",
    "minilm", "minilm_v2", "mlkd_bert", "averaged_kd", "dynamic_kd", "rl_kd", "mt_bert", "knowledge_selection",
    "skd", "mix", "gkd", "ad_kd", "backward_kd", "mixed_vocab", "simkd", "kronecker_bert", "mkd", "text_smoothing",
    "meta_kd", "l2a",
)  # fmt: skip
"""The file of each method in this folder, by family and year: the order in which they are listed everywhere."""


@cache
def built_in() -> dict[str, MethodInfo]:
    """Key -> what is known of each method in this folder, in the order of `MODULES`."""
    folder = Path(__file__).parent
    infos = (read_info((folder / f"{module}.py").read_text(encoding="utf-8"), module) for module in MODULES)
    return {info.key: info for info in infos}


def catalog() -> dict[str, MethodInfo]:
    """Key -> what is known of the method, by family and year; those from outside, too.

    >>> catalog()["pkd"].cite
    'Sun et al. 2019'
    """
    return _whole(outside.method_paths())


def outside_methods() -> outside.OutsideMethods:
    """The methods from outside, and what is wrong with those that cannot be taken."""
    return _outside_methods(outside.method_paths())


def add_files(paths: list[Path]) -> None:
    """Takes these files' methods in, here and in the processes that are started from here.

    Raises:
        UserError: a file cannot be taken; file, line and remedy are named.
    """
    named = outside.with_files(outside.method_paths(), paths)
    problems = _outside_methods(named).problems
    for path in paths:
        if problem := problems.get(str(path.resolve())):
            raise problem
    outside.keep(named)


def title_of(key: str) -> str:
    """The method's title, or the start of its key where no such method is here (a run from elsewhere)."""
    info = catalog().get(key)
    return info.title if info else key[:40]


def source_of(key: str) -> MethodSource | None:
    """Where the method comes from; None where it is shipped, or is not here."""
    info = catalog().get(key)
    return info.source if info else None


def check_source(run: RunConfig) -> None:
    """Raises UserError where the method that the run was made with is not here, or its source has changed since."""
    stored, here = run.method_source, catalog().get(run.method)
    if stored is None:
        return
    if here is None:
        file = stored.origin.endswith(".py")
        broken = next((one for one in outside_methods().problems.values() if one.field.startswith(stored.origin)), None)
        why = f"which cannot be taken ({broken.field}: {broken.problem})" if broken else "which is not here"
        raise UserError(
            "method", f"the method {run.method!r} comes from {stored.origin}, {why}",
            "name it with --method-file, or its folder in KD_METHODS_DIR" if file else f"install {stored.origin}",
        )  # fmt: skip
    if here.source is None or here.source.version != stored.version:
        now = f"{here.source.origin}, version {here.source.version}" if here.source else "a shipped one"
        raise UserError(
            "method",
            f"the method {run.method!r} was {stored.origin}, version {stored.version}, when this run was made, "
            f"and is {now} now",
            "put back what was there, or start another run without method_source (a clone has none)",
        )


@lru_cache(maxsize=4)
def _outside_methods(named: outside.MethodPaths) -> outside.OutsideMethods:
    return outside.find(named, built_in())


@lru_cache(maxsize=4)
def _whole(named: outside.MethodPaths) -> dict[str, MethodInfo]:
    infos = [*built_in().values(), *(method.info for method in _outside_methods(named).methods.values())]
    return {info.key: info for info in sorted(infos, key=lambda info: info.place)}
