"""The line of the title: Streamlit's own bar lies over it and must not take its clicks. No run is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kdcore.store import open_store
from tests.helpers.store_factory import add, run_config

ON_TOP = """input => {
  const box = input.getBoundingClientRect()
  return input.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2))
}"""


def test_the_choice_of_the_run_can_be_clicked(server: Any, open_page: Callable[..., Any]) -> None:
    run = add(open_store(f"sqlite:///{server.cache / 'runs.db'}"), run_config("kd"))
    page = open_page(f"live?job={run}")
    choice = page.locator(".st-key-live_run input").first
    choice.wait_for()
    page.wait_for_function(f"() => ({ON_TOP})(document.querySelector('.st-key-live_run input'))")
    choice.click()
    page.get_by_role("option").first.wait_for()
