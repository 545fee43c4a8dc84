"""Faults on purpose: kills, several processes, a woken worker, damaged files. `python -m bench.faults --help`."""
