"""What a run outlives: counts as JSON.

    python -m bench.faults [kills processes farm damage web inputs] [--methods fine-tune kd] [--kills 4] [--runs 6]
        [--damages 20] [--seed 0] [--database postgresql+psycopg://...]

All campaigns by default, small (a few minutes on two cores), each in a cache folder of its own that is removed:

* kills: worker processes are killed with SIGKILL at random moments and their runs resumed, until workers were killed so
  often; the runs end, and their students are compared bit by bit with those of a run that nobody disturbed; logged
  points, evaluations, stuck leases, unfinished folders and the database's own check are counted.
* processes: three worker processes on one queue, one of them killed and its run queued again; and a zombie: a worker is
  stopped right before it replaces the chosen student, another takes the run over, it wakes.
* farm: runs in two slots; a training process is killed, then the farm itself; a second farm does what is left.
* damage: bytes of the files of a finished run and of its checkpoint are flipped, cut or zeroed, then read.
* web: foreign host names, origins and climbing paths at the dashboard's door.
* inputs: bad tables and settings, before a start.

What open pages leave behind in the server's process is `python -m bench.leak_check`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from bench.faults.damage import damage
from bench.faults.farm import farm
from bench.faults.inputs import inputs
from bench.faults.kills import kills
from bench.faults.processes import processes, zombie

CAMPAIGNS = ("kills", "processes", "farm", "damage", "web", "inputs")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults")
    parser.add_argument("campaigns", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; none: all")
    parser.add_argument("--methods", nargs="+", default=["fine-tune", "kd"])
    parser.add_argument("--kills", type=int, default=4, help="of each method's runs")
    parser.add_argument("--database", default="", help="of kills and farm: an address, not a new SQLite file")
    parser.add_argument("--runs", type=int, default=6, help="of the three processes, and of the farm")
    parser.add_argument("--damages", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.campaigns) - set(CAMPAIGNS)):
        parser.error(f"no campaign {unknown[0]!r}; there are {', '.join(CAMPAIGNS)}")
    print(json.dumps({name: _counts(name, chosen) for name in chosen.campaigns or CAMPAIGNS}, indent=1))


def _counts(campaign: str, chosen: argparse.Namespace) -> dict[str, Any]:
    match campaign:
        case "kills":
            return {one: kills(one, chosen.kills, chosen.seed, chosen.database) for one in chosen.methods}
        case "processes":
            return {"killed worker": processes(chosen.runs), "zombie": zombie()}
        case "farm":
            return farm(chosen.runs, chosen.database)
        case "damage":
            return damage(chosen.damages, chosen.seed)
        case "web":
            from bench.faults.web import web  # needs the browser tests' packages, the others do not

            return web()
        case _:
            return inputs()


if __name__ == "__main__":
    main()
