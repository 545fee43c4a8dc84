"""Takes the README's picture: the page Compare over the example study that comes with the program, from its top.

    python -m bench.picture

Writes docs/dashboard.png. Needs Chromium, as the browser tests do.
"""

from __future__ import annotations

from bench.dashboard import ROOT, browser, cache, dashboard_server, wait_until_drawn
from kdcore.runs.example import open_study
from kdcore.store import open_store


def main() -> None:
    with cache():
        runs = open_study(open_store())
        with dashboard_server() as (url, _), browser() as context:
            page = context.new_page()
            page.set_viewport_size({"width": 1280, "height": 1200})
            page.goto(f"{url}/compare?runs={','.join(runs)}")
            wait_until_drawn(page)
            page.screenshot(path=str(ROOT / "docs" / "dashboard.png"))


if __name__ == "__main__":
    main()
