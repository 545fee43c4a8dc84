"""A page stands still while it first appears: what a person begins to read is not pushed away.

Chrome's own measure (web.dev/cls) over the example, at 1280 x 800. Streamlit's frame moves before there is a page in it
(its sidebar comes with the first message: about 0.21) and fills its menu beside it (0.02); only what moves inside the
page counts here. Nor does it count that the whole page moves at once, by the margins of our style sheet: Streamlit
fetches what draws one beside the first elements, not before them. Of five openings one must do: beside other work the
elements come in another order.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.test_answer_first import ANSWERS, PATIENCE, SCREEN, _expect, _still, opened, store

__all__ = ["opened", "store"]
pytestmark = pytest.mark.timeout(15 * PATIENCE)

MOST = 0.1
"""What web.dev calls good."""
OBSERVER = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    const whole = (source) => source.node?.parentElement?.dataset.testid === "stMainBlockContainer";
    if (entry.sources.some(whole)) continue;
    const inside = (source) => source.node?.parentElement?.closest("[data-testid=stMainBlockContainer]");
    if (entry.sources.some(inside)) window.shifts.push(entry.value);
  }
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize("path", ANSWERS)
def test_a_page_stands_still(path: str, opened: list[str], browser: Any, server: Any) -> None:
    tries = [f"{server.url}/{path}"] * 5
    assert any(_shift(browser, address, ANSWERS[path]) < MOST for address in tries)


def _shift(browser: Any, address: str, answer: str) -> float:
    """The sum over one opening, with nothing kept from an earlier one."""
    context = browser.new_context(viewport=SCREEN, reduced_motion="reduce")
    try:
        page = context.new_page()
        page.add_init_script(OBSERVER)
        page.goto(address)
        _expect(page.locator(answer).first).to_be_visible()
        _still(page)
        page.wait_for_timeout(500)
        return float(page.evaluate("window.shifts.reduce((sum, value) => sum + value, 0)"))
    finally:
        context.close()
