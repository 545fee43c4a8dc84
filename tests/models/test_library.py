"""transformers, imported by two threads at once."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import sys, threading, time
errors = []
first = threading.Thread(target=lambda: __import__("transformers"))
first.start()
while "transformers" not in sys.modules:
    time.sleep(0.0005)
from kdcore.models.library import transformers
print(transformers().AutoConfig.__name__)
first.join()
"""


def test_a_thread_that_comes_second_finds_it_whole() -> None:
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "AutoConfig", done.stderr
