"""What a run outlives: counts as JSON.

    python -m bench.faults [--methods fine-tune kd] [--kills 4] [--runs 6] [--damages 20] [--seed 0]
        [--database postgresql+psycopg://...]

Small by default (a few minutes on two cores). Campaigns, each in a cache folder of its own that is removed afterwards:

* kills: a worker process is killed with SIGKILL at random moments, and the run resumed, until workers were killed so
  often; the runs end, and their students are compared bit by bit with those of a run that nobody disturbed; logged
  points, evaluations, stuck leases, unfinished folders and the database's own check are counted.
* processes: three worker processes on one queue, one of them killed and its run queued again.
* zombie: a worker is stopped right before it replaces the chosen student, another takes the run over, it wakes.
* damage: bytes of the files of a finished run and of its checkpoint are flipped, cut or zeroed, then read.
"""

from __future__ import annotations

import argparse
import json

from bench.faults.campaigns import damage, kills, processes, zombie


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults")
    parser.add_argument("--methods", nargs="+", default=["fine-tune", "kd"])
    parser.add_argument("--kills", type=int, default=4, help="of each method's runs")
    parser.add_argument("--database", default="", help="of the kills: an address in place of a new SQLite file")
    parser.add_argument("--runs", type=int, default=6, help="of the three processes; 0: none of them, and no zombie")
    parser.add_argument("--damages", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    counts = {
        "kills": {method: kills(method, chosen.kills, chosen.seed, chosen.database) for method in chosen.methods},
        "processes": processes(chosen.runs) if chosen.runs else {},
        "zombie": zombie() if chosen.runs else {},
        "damage": damage(chosen.damages, chosen.seed) if chosen.damages else {},
    }
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
