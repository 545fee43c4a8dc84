"""KDBoard: `streamlit run app.py`."""

from pages.parts.common.shell import run

run()
