"""Examples a second of PKD here and in the toolkits that people use, on the same data and models.

    pip install --no-deps textbrewer==0.2.1.post1 tensorboardX==2.6.4 accelerate==1.15.0
    KD_GLUE_DIR=... python -m bench.toolkits

SST-2 rows over three epochs, batch 32, at most 128 tokens; teacher: all-MiniLM-L6-v2 (6 layers, 384 wide) with a
classifier, student: 3 of its layers. All arms have the same rows, weights, loss (gold labels, soft targets at T = 10,
[CLS] states of layers 1 and 2 against 2 and 4 scaled to length 1), fused AdamW, schedule, dropout, number of threads
and way of waiting for threads (see README.md). TextBrewer runs its GeneralDistiller with its own losses `ce` and `pkd`,
padded to 128 as its examples do, or with a collator that pads to the longest row of the batch. It has no bf16 on a CPU
(only apex). Trainer is Hugging Face's, its `compute_loss` runs the teacher under no_grad, in bf16 where the rest is.

Timed: from data and models ready to the last step done, first steps included; no evaluation, checkpoint or
logging to a tracker. Each block in a fresh process. Slow arms run part of the steps (`SHARE`; their schedule is
shortened), which gives them a little more of their first, slower step: under one percent. Ours, cold: the teacher's
pass over all rows is part of the time. Ratios: ours, cold / the arm, within a round.
Writes bench/results/toolkits.json.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bench.fixtures import BATCH, LR, MAX_LENGTH, Subject, time_cold_run, time_warm_run
from bench.reference_loop import ALPHA, BETA, PAIRS, PKD, TEMPERATURE, gold, learn, optimizer_and_schedule, pkd
from bench.timing_blocks import (
    Arm,
    Figures,
    command_line,
    figures,
    in_fresh_process,
    parse_options,
    ratios,
    spread,
    start_bench,
)
from kdcore.config import RunConfig
from kdcore.data.encode import Encoded
from kdcore.engine.device import Compute, compute_for, has_fast_bf16
from kdcore.models.sizes import size_of

PADDED, DYNAMIC = "TextBrewer, padded to 128, fp32", "TextBrewer, dynamic padding, fp32"
TRAINER, TRAINER_BF16 = "Trainer with teacher, fp32", "Trainer with teacher, bf16"
ALONE, BARE = "Trainer, student alone, bf16", "bucketed loop, student alone, bf16"
COLD, WARM, FINE_TUNE = "ours, PKD, cold", "ours, PKD, warm", "ours, student alone"
SHARE = {PADDED: 1 / 8, DYNAMIC: 1 / 4, TRAINER: 1 / 4, TRAINER_BF16: 1 / 2}
"""Part of the steps that an arm runs, where it is not all of them."""
AIMS = {PADDED: 15, DYNAMIC: 6, TRAINER_BF16: 4, ALONE: 1}
"""How many times as fast ours, cold, is meant to be."""
EPOCHS = 3
NEEDED = ("textbrewer", "tensorboardX", "accelerate")


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(command_line(__doc__, rounds=3, rows=4000), arguments)
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; the first lines of bench/toolkits.py say how")
    bench = start_bench(
        "toolkits", arguments, options, NEEDED, epochs=EPOCHS, batch=BATCH, max_length=MAX_LENGTH, seed=0,
        share_of_steps=SHARE,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        subject = Subject(Path(home), options.task, options.rows, options.threads)
        in_fresh_process(partial(time_warm_run, subject.run("pkd", options=PKD, max_steps=1), subject.home))
        blocks = bench.in_turn(_arms(subject), options.rounds)
    bench.finish(_summary(blocks), blocks)


def _arms(subject: Subject) -> dict[str, Arm]:
    ours = subject.run("pkd", options=PKD, epochs=EPOCHS)
    alone = subject.run("fine-tune", epochs=EPOCHS)
    return {
        PADDED: partial(textbrewer, subject, ours, SHARE[PADDED], to_longest=False),
        DYNAMIC: partial(textbrewer, subject, ours, SHARE[DYNAMIC], to_longest=True),
        TRAINER: partial(trainer, subject, ours, SHARE[TRAINER], taught=True, bf16=False),
        TRAINER_BF16: partial(trainer, subject, ours, SHARE[TRAINER_BF16], taught=True, bf16=True),
        ALONE: partial(trainer, subject, ours, 1, taught=False, bf16=True),
        BARE: partial(bare, subject, ours),
        FINE_TUNE: partial(time_warm_run, alone, subject.home),
        COLD: partial(time_cold_run, ours, subject.home),
        WARM: partial(time_warm_run, ours, subject.home),
    }


def textbrewer(subject: Subject, run: RunConfig, share: float, to_longest: bool) -> Figures:
    """TextBrewer's GeneralDistiller, float32."""
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    torch.set_num_threads(subject.threads)
    _, rows, tokenizer = subject.encoded(run)
    teacher, student = subject.models(run)
    steps = _steps(len(rows.train), share)
    weight = BETA / (len(PAIRS) * size_of(student.config).width)  # theirs sums over the width, a term a layer
    matches = [
        {"layer_T": theirs, "layer_S": ours, "feature": "hidden", "loss": "pkd", "weight": weight}
        for ours, theirs in PAIRS.items()
    ]
    losses = DistillationConfig(
        temperature=TEMPERATURE, hard_label_weight=1 - ALPHA, kd_loss_weight=ALPHA * TEMPERATURE**2, kd_loss_type="ce",
        intermediate_matches=matches,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingConfig(output_dir=folder, device="cpu", ckpt_steps=steps)
        distiller = GeneralDistiller(settings, losses, teacher, student, _outputs, _outputs)
        loader = _loader(rows.train, tokenizer, to_longest)
        optimizer, schedule = optimizer_and_schedule(student, steps)
        began = time.perf_counter()
        with distiller:
            distiller.train(
                optimizer, loader, num_steps=steps, scheduler=schedule, max_grad_norm=1.0, output_hidden_states=True
            )
        return _figures(began, steps)


def trainer(subject: Subject, run: RunConfig, share: float, taught: bool, bf16: bool) -> Figures:
    """Hugging Face's Trainer, dynamic padding."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    torch.set_num_threads(subject.threads)
    _, rows, tokenizer = subject.encoded(run)
    teacher, student = subject.models(run)
    steps = _steps(len(rows.train), share)
    fast = bf16 and has_fast_bf16("cpu")
    compute = Compute(torch.device("cpu"), "bf16" if fast else "fp32")

    class Distiller(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
            labels = inputs.pop("labels")
            with torch.no_grad(), compute.autocast():
                theirs = teacher(**inputs, output_hidden_states=True)
            return pkd(model(**inputs, output_hidden_states=True), theirs, labels)

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, use_cpu=True, bf16=fast, max_steps=steps, per_device_train_batch_size=BATCH,
            learning_rate=LR, warmup_steps=max(1, round(0.1 * steps)), weight_decay=0.01, max_grad_norm=1.0,
            optim="adamw_torch_fused", save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        kind = Distiller if taught else Trainer
        made = kind(student, settings, DataCollatorWithPadding(tokenizer), _features(rows.train))
        began = time.perf_counter()
        made.train()
        return _figures(began, steps)


def bare(subject: Subject, run: RunConfig) -> Figures:
    """The plain loop over buckets of like length: the student alone, in bf16 where the processor has it."""
    torch.set_num_threads(subject.threads)
    _, rows, _ = subject.encoded(run)
    _, student = subject.models(run)
    steps = _steps(len(rows.train), 1)
    began = time.perf_counter()
    learn(student, rows.train, steps, gold, compute_for(run.train), bucket=True)
    return _figures(began, steps)


def _steps(rows: int, share: float) -> int:
    return max(2, round(EPOCHS * -(-rows // BATCH) * share))


def _figures(began: float, steps: int) -> Figures:
    seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 4), "steps": steps, "examples_per_second": round(steps * BATCH / seconds, 3),
        "threads_used": torch.get_num_threads(),
    }  # fmt: skip


def _features(rows: Encoded) -> list[dict[str, Any]]:
    """The tokenised rows as these toolkits take them."""
    ends = zip(rows.offsets, rows.offsets[1:], strict=False)
    return [
        {
            "input_ids": rows.input_ids[start:stop].tolist(), "token_type_ids": rows.token_types[start:stop].tolist(),
            "attention_mask": [1] * int(stop - start), "labels": int(label),
        }
        for (start, stop), label in zip(ends, rows.labels, strict=True)
    ]  # fmt: skip


def _loader(rows: Encoded, tokenizer: Any, to_longest: bool) -> DataLoader[Any]:
    """Shuffled batches as TextBrewer takes them: plain dicts, padded on the way or, to 128, beforehand."""
    from transformers import DataCollatorWithPadding

    torch.manual_seed(0)
    features: Any = _features(rows)
    if to_longest:
        pad = DataCollatorWithPadding(tokenizer)
        return DataLoader(features, BATCH, shuffle=True, collate_fn=lambda chosen: dict(pad(chosen)))
    whole = tokenizer.pad(features, padding="max_length", max_length=MAX_LENGTH, return_tensors="pt")
    padded: Any = [{name: whole[name][row] for name in whole} for row in range(len(rows))]
    return DataLoader(padded, BATCH, shuffle=True)


def _outputs(_: Any, outputs: Any) -> dict[str, Any]:
    """What TextBrewer reads of a model's outputs."""
    return {"logits": outputs.logits, "hidden": outputs.hidden_states, "losses": outputs.loss}


def _summary(blocks: list[Figures]) -> dict[str, Any]:
    ours = figures(blocks, COLD, "examples_per_second")
    summary = {}
    for arm in dict.fromkeys(block["arm"] for block in blocks):
        theirs = figures(blocks, arm, "examples_per_second")
        summary[arm] = {"examples_per_second": spread(theirs), "ours_cold_to_it": ratios(ours, theirs)}
        ratio, aim = summary[arm]["ours_cold_to_it"]["median"], AIMS.get(arm)
        reached = f" ({'reached' if ratio >= aim else 'below'} {aim})" if aim else ""
        print(f"{arm:36} {_spread_text(summary[arm])} examples/s, ours cold x {ratio:.2f}{reached}")
    return {"aims": AIMS, "summary": summary}


def _spread_text(row: dict[str, Any]) -> str:
    options = row["examples_per_second"]
    return f"{options['median']:7.1f} ({options['min']:.1f} to {options['max']:.1f})"


if __name__ == "__main__":
    main()
