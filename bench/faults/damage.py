"""Bytes of a finished run's files, cut, flipped and zeroed."""

from __future__ import annotations

import random
from typing import Any

from bench.faults.workers import PATIENCE, WORK, cache, settings, worker_process
from kdcore.errors import UserError
from kdcore.paths import run_dir


def damage(count: int, seed: int) -> dict[str, Any]:
    """Files of a finished run, damaged one at a time, then read as the pages read them."""
    from kdcore.engine.run_files import predictions
    from kdcore.models.students import load_classifier

    chance, answers = random.Random(seed), {"named": 0, "unnoticed": 0, "raw_error": 0}
    with cache() as store:
        run = store.add_run(settings("fine-tune"))
        worker_process(WORK, run).wait(PATIENCE)
        folder = run_dir(run)
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".safetensors", ".npz")]
        for _ in range(count):
            path = chance.choice(files)
            whole = path.read_bytes()
            path.write_bytes(_hurt(whole, chance))
            try:
                load_classifier(path.parent) if path.name == "model.safetensors" else predictions(folder)
                answers["unnoticed"] += 1
            except UserError:
                answers["named"] += 1
            except Exception:
                answers["raw_error"] += 1
            path.write_bytes(whole)
    return {"damages": count, **answers}


def _hurt(content: bytes, chance: random.Random) -> bytes:
    how, at = chance.choice(("cut", "flip", "zero")), chance.randrange(len(content))
    if how == "cut":
        return content[:at]
    hurt = bytearray(content)
    hurt[at : at + (1 if how == "flip" else 64)] = (
        bytes([hurt[at] ^ 255]) if how == "flip" else bytes(len(hurt[at : at + 64]))
    )
    return bytes(hurt)
