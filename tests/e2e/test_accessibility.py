"""No serious fault that axe-core can find, on any page, light and dark, over the example that comes with the program.

axe-core checks among others the contrast of text, the names of buttons, links and boxes, the roles of what stands in a
table or a list, and texts for pictures. What Streamlit itself draws wrongly, and this program cannot change, is listed
with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from kdcore.runs import example
from kdcore.store import open_store

PATIENCE = float(os.environ.get("KD_TEST_PATIENCE", "90"))
pytestmark = pytest.mark.timeout(15 * PATIENCE)

IMPACT = ("serious", "critical")
PATHS = (
    "", "launch", "live", "runs", "compare", "compare?tab=Curves", "compare?tab=Race", "compare?tab=Settings",
    "compare?tab=Report", "layers", "attention", "speed", "speed?ssection=Runtimes", "speed?ssection=Searches",
    "beyond", "examples", "examples?epart=Ensemble", "lost", "learn",
    "learn?part=Temperature", "learn?part=Lessons", "system", "compare?tour=2",
)  # fmt: skip
STREAMLIT = {
    # A menu in sections is drawn as <ul><div><header/><li/></div></ul>; the markup is Streamlit's, and no setting of
    # st.navigation changes it but a menu without sections. Screen readers read all links of it.
    "list": "[data-testid=stSidebarNavItems]",
    "listitem": "[data-testid=stSidebarNavItems]",
}
"""Rule -> what the faulty element is, or is inside of: Streamlit's own faults, each with its reason."""


def _axe() -> Any:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        why = "axe-playwright-python is not installed (requirements-dev.txt)"
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(why)
        pytest.skip(why)
    return Axe()


@pytest.fixture(scope="module")
def opened(server: Any) -> list[str]:
    """The example in the server's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_CACHE_DIR", str(server.cache))
        return example.open_study(open_store(f"sqlite:///{server.cache / 'runs.db'}"))


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(locator)


def _still(page: Any) -> None:
    _expect(page.get_by_role("heading", level=1)).to_be_visible()
    _expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()
    page.wait_for_function("() => [...document.querySelectorAll('.kd-plot')].every(plot => 'ready' in plot.dataset)")


def faults(page: Any) -> list[str]:
    """What is wrong on the page as it stands, one line an element."""
    found = _axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:300]} {node.get('failureSummary', '')[:300]}"
        for fault in found
        if fault["impact"] in IMPACT
        for node in fault["nodes"]
        if not _excused(page, fault["id"], node["target"][-1])
    ]


def _excused(page: Any, rule: str, selector: str) -> bool:
    """Whether this element is one of Streamlit's that are listed above."""
    around = STREAMLIT.get(rule)
    if around is None:
        return False
    return bool(
        page.evaluate("([selector, around]) => !!document.querySelector(selector)?.closest(around)", [selector, around])
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_no_page_has_a_serious_fault(path: str, dark: bool, opened: list[str], visit: Callable[..., Any]) -> None:
    page = visit(path, dark=dark)
    _still(page)
    found = faults(page)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", ["", "compare", "launch", "attention"])
def test_nor_on_a_narrow_screen(path: str, opened: list[str], visit: Callable[..., Any]) -> None:
    page = visit(path, width=390)
    _still(page)
    found = faults(page)
    assert not found, "\n".join(found)


def test_a_fault_is_found(browser: Any) -> None:
    """The check itself sees what it is there for."""
    page = browser.new_page()
    page.set_content(
        "<html lang=en><title>faulty</title><main><h1>Title</h1><button></button><img src='data:,'>"
        "<p style='color:#ccc;background:#fff'>pale letters</p></main></html>"
    )
    rules = {line.split(" ")[0] for line in faults(page)}
    page.close()
    assert {"button-name", "image-alt", "color-contrast"} <= rules
