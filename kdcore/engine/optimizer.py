"""What a stage changes, at which rate, and how its gradients are clipped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdcore.config import TrainConfig
from kdcore.engine.job import Job
from kdcore.models.anatomy import anatomy
from kdcore.records import Stage

NO_DECAY = ("bias", "LayerNorm.weight", "layer_norm.weight")


def make_optimizer(job: Job, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over what this stage trains; everything else is frozen, but for what the method's own optimisers train.

    Parameters that roles share belong to the first that the stage trains.
    """
    groups: list[dict[str, Any]] = []
    for module in job.modules().values():
        module.requires_grad_(False)
    for parameter in job.own_parameters():
        parameter.requires_grad_(True)
    taken: set[nn.Parameter] = set()
    learners = [role for role in job.modules() if stage.trains(role)]
    for role in learners:
        named = [(name, p) for name, p in trained_parameters(job, stage, role).items() if p not in taken]
        for _, parameter in named:
            parameter.requires_grad_(True)
            taken.add(parameter)
        learner = learners[0] if role == "method" else role
        for decay in (True, False):
            chosen = [p for name, p in named if name.endswith(NO_DECAY) != decay]
            if chosen:
                weight_decay = job.train.weight_decay if decay else 0.0
                settings = {"lr": 0.0, "rate": stage.lr[role], "weight_decay": weight_decay, "learner": learner}
                groups.append({"params": chosen, **settings})
    if not groups:
        raise ValueError(f"the stage {stage.name} trains nothing")
    optimizer = torch.optim.AdamW(groups, lr=job.train.lr, fused=True)
    for embedding in job.sparse_embeddings().values():
        optimizer.register_step_post_hook(embedding.decay)
    return optimizer


def trained_parameters(job: Job, stage: Stage, role: str) -> dict[str, nn.Parameter]:
    """Name -> parameter of all that the stage changes of this role."""
    if not stage.trains(role):
        return {}
    module = job.modules()[role]
    parts = anatomy(module) if stage.frozen and role != "method" else None
    frozen = {p for name in stage.frozen if parts for kept in parts.part(name) for p in kept.parameters()}
    kept, frozen = job.kept[role], frozen | job.own_parameters()
    return {name: p for name, p in module.named_parameters() if name not in kept and p not in frozen}


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
