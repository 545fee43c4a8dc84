"""Memory of answering: what `kdcore/probes/memory.py` counts against what a process grows by.

    python -m bench.answering_memory

Each case is a fresh process. It answers with another model first, so that libraries are loaded, then builds its own,
gives free memory back, answers twice, and reads its highest resident memory (VmHWM) over what it had before the model.
That holds what the count leaves out: what matrix kernels keep for themselves, and whole pages. Linux with glibc only.
Writes bench/results/answering_memory.json.
"""

from __future__ import annotations

import ctypes
import gc
from functools import partial
from pathlib import Path
from typing import Any

from bench.timing_blocks import Figures, command_line, figures, parse_options, ratios, spread, start_bench

SIZES = {
    "2 x 64": (2, 64, 4, 256, 2000),
    "3 x 384": (3, 384, 12, 1536, 30522),
    "6 x 384": (6, 384, 12, 1536, 30522),
    "12 x 768": (12, 768, 12, 3072, 30522),
}
"""layers x width -> layers, width, heads, intermediate width, vocabulary."""
BATCHES, TOKENS = (1, 32), 64
_MIB = 2**20


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(command_line(__doc__, rounds=3), arguments)
    precisions = _precisions()
    bench = start_bench("answering_memory", arguments, options, tokens=TOKENS)
    sizes = ["2 x 64"] if options.quick else list(SIZES)
    arms = {
        f"{size}, batch {batch}, {precision}": partial(grow, size, batch, precision, options.threads)
        for size in sizes
        for batch in BATCHES
        for precision in precisions
    }
    blocks = bench.in_turn(arms, options.rounds)
    bench.finish(_summary(blocks, list(arms)), blocks)


def grow(size: str, batch: int, precision: str, threads: int) -> Figures:
    """MiB that are counted, and that this process grows by."""
    import torch

    from kdcore.probes import memory
    from kdcore.probes.forward_pass import answer, inputs_for

    torch.set_num_threads(threads)
    with torch.inference_mode():
        other = _model((1, 96, 4, 160, 500))
        answer(other, inputs_for(other, 2, 16), precision)
        before = _highest_since_now()
        model = _model(SIZES[size])
        inputs = inputs_for(model, batch, TOKENS)
        _highest_since_now()
        for _ in range(2):  # the first pass makes kernels
            answer(model, inputs, precision)
        grown = max(_status("VmHWM"), _status("VmRSS")) - before  # the kernel's sums lag a little
        counted = memory.answering(model, inputs, precision)
    return {"counted_mib": round((counted or 0) / _MIB, 2), "grown_mib": round(grown / _MIB, 2)}


def _model(shape: tuple[int, int, int, int, int]) -> Any:
    from kdcore.models.sizes import bert_config
    from kdcore.models.weights import build_classifier
    from kdcore.records import ModelSize

    return build_classifier(bert_config(ModelSize(*shape), 2, None), {}, 0)[0].eval()


def _precisions() -> tuple[str, ...]:
    from kdcore.engine.device import has_fast_bf16

    return ("fp32", "bf16") if has_fast_bf16("cpu") else ("fp32",)


def _highest_since_now() -> int:
    """Bytes in use now, with what was freed given back; from here on VmHWM is the highest since."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def _summary(blocks: list[Figures], arms: list[str]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for arm in arms:
        counted, grown = figures(blocks, arm, "counted_mib"), figures(blocks, arm, "grown_mib")
        summary[arm] = {"counted_mib": spread(counted), "grown_mib": spread(grown), "ratio": ratios(counted, grown)}
        row = summary[arm]
        print(f"{arm:28} {row['counted_mib']['median']:8} of {row['grown_mib']['median']:8} MiB")
    return {"summary": summary}


if __name__ == "__main__":
    main()
