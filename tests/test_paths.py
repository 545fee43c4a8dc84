"""Paths: typed ones are checked, ids never leave their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdcore.errors import UserError
from kdcore.paths import user_path


@pytest.mark.parametrize("text", ["x" * 300, "~nobody-of-this-name/x", "a\0b"])
def test_a_path_that_no_system_takes_is_an_error_of_its_field(text: str) -> None:
    with pytest.raises(UserError) as error:
        user_path(text, "own.path")
    assert error.value.field == "own.path" and "is not a path" in error.value.problem


def test_a_path_need_not_exist(tmp_path: Path) -> None:
    assert user_path(str(tmp_path / "absent"), "own.path") == tmp_path / "absent"
    assert user_path("~/x", "own.path") == Path.home() / "x"
