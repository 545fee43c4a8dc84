"""In what else than the method two runs differ, in words."""

from __future__ import annotations

from kdcore.analysis.differences import differing_topics
from tests.helpers.store_factory import run_config

SIZE = {"layers": 2, "width": 64, "heads": 4, "intermediate": 128}


def test_starts_are_told_in_words() -> None:
    random = run_config("kd", student=SIZE | {"init": "random"})
    spread = run_config("kd", student=SIZE | {"init": "teacher", "init_layers": "skip"})
    assert differing_topics(random, spread) == {"start": "random start against spread layers of the teacher"}
    assert differing_topics(random, random) == {}


def test_starts_from_other_teachers_name_them() -> None:
    start = SIZE | {"init": "teacher"}
    large, small = (
        run_config("kd", student=start, teachers=[{"name": "t", "source": "pocket", "where": size}])
        for size in ("large", "small")
    )
    words = differing_topics(large, small)["start"]
    assert words == "from source pocket, where large against source pocket, where small"
