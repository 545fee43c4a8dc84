"""What a stage changes, at which rate, and how its gradients are clipped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdcore.config import TrainConfig
from kdcore.engine.job import Job
from kdcore.records import Stage

NO_DECAY = ("bias", "LayerNorm.weight", "layer_norm.weight")


def make_optimizer(job: Job, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over the roles this stage trains; everything else is frozen.

    Parameters that roles share belong to the first that the stage trains.
    """
    groups: list[dict[str, Any]] = []
    modules = job.modules()
    for module in modules.values():
        module.requires_grad_(False)
    taken: set[nn.Parameter] = set()
    learners = [role for role in modules if stage.trains(role)]
    for role in learners:
        modules[role].requires_grad_(True)
        named = [(name, p) for name, p in modules[role].named_parameters() if p not in taken]
        taken.update(parameter for _, parameter in named)
        learner = learners[0] if role == "method" else role
        for decay in (True, False):
            chosen = [p for name, p in named if name.endswith(NO_DECAY) != decay]
            if chosen:
                weight_decay = job.train.weight_decay if decay else 0.0
                settings = {"lr": 0.0, "rate": stage.lr[role], "weight_decay": weight_decay, "learner": learner}
                groups.append({"params": chosen, **settings})
    optimizer = torch.optim.AdamW(groups, lr=job.train.lr, fused=True)
    for embedding in job.sparse_embeddings().values():
        optimizer.register_step_post_hook(embedding.decay)
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, stage: Stage, done: int, steps: int, train: TrainConfig) -> float:
    """Linear warm-up, then linear decay to zero or constant; returns the rate of a role with factor 1.

    Args:
        done, steps: of the stage.
    """
    warm = max(1, round(train.warmup * steps))
    factor = min(1.0, (done + 1) / warm)
    if stage.schedule == "linear" and done >= warm:
        factor = (steps - done) / max(1, steps - warm)
    for group in optimizer.param_groups:
        group["lr"] = train.lr * factor * group["rate"]
    return train.lr * factor


def clip(optimizer: torch.optim.Optimizer, most: float) -> Tensor:
    """Clips each learner's gradient by itself, so that its steps do not depend on who else learns.

    The method's own modules belong to the first learner.

    Returns:
        the norm of all gradients before, a scalar.
    """
    learners: dict[str, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        learners.setdefault(group.get("learner", ""), []).extend(group["params"])
    norms = [nn.utils.clip_grad_norm_(parameters, most) for parameters in learners.values()]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm()
