"""Times student and teacher shapes in turn on a quiet machine, at the mean length of each GLUE task in KD_GLUE_DIR.

    KD_GLUE_DIR=... python -m bench.latency

makes bench/results/latency.json: median, p10 and p90 in ms, batch 1 and 32, fp32 and bf16 where the CPU has it.
Latency depends on shape and length, not on weights, so the models have new weights.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from kdcore.config import TeacherSpec
from kdcore.data import load
from kdcore.data.encode import encode
from kdcore.engine.device import has_fast_bf16
from kdcore.models.sizes import bert_config
from kdcore.models.sources import locate, size_at
from kdcore.models.tokenizers import load_tokenizer
from kdcore.models.weights import build_classifier
from kdcore.probes import latency
from kdcore.records import ModelSize


def main() -> None:
    located = locate(TeacherSpec(name="minilm", source="package", where="minilm"))
    base, tokenizer = size_at(located.path, 2), load_tokenizer(located.path)
    models = {}
    for layers in (6, 4, 3):
        size = ModelSize(**{**vars(base), "layers": layers})
        models[f"{layers} layers"] = build_classifier(bert_config(size, 2, None), {}, 0)[0]
    records_by_task = []
    for task in ("sst2", "cola", "stsb", "mrpc", "rte"):
        tokens = round(float(encode(load(task).train, tokenizer, 128).lengths.mean()))
        for precision in ("fp32", "bf16") if has_fast_bf16("cpu") else ("fp32",):
            records = latency.measure(models, tokens=tokens, precision=precision, repeats=30, seconds=6)
            records_by_task += [{"task": task, **record.data()} for record in records]
            print(
                task, tokens, precision, [(r.name, r.batch, round(r.median_ms, 2), r.busy) for r in records], flush=True
            )
    about = {"command": "python -m bench.latency", "torch": torch.__version__, "records": records_by_task}
    path = Path(__file__).parent / "results" / "latency.json"
    path.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
