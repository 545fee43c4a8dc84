"""The first part of a search: what every size costs, and which exceed the bound."""

from __future__ import annotations

from collections.abc import Callable

from kdcore.errors import UserError
from kdcore.records import ModelSize
from kdcore.search.candidates import Candidate, Space, deployed_sizes
from kdcore.search.costs import measure
from kdcore.search.question import MEASURES, Cost, Question
from kdcore.search.record import SearchRecord

Say = Callable[[str], None]


def take_costs(record: SearchRecord, question: Question, space: Space, say: Say) -> None:
    """Takes the costs of every size that a candidate deploys into a record.

    Raises:
        UserError: no candidate can be trained, no size keeps to the bound, or a runtime cannot hold one.
    """
    defaults = [space.default(method, size) for method in space.methods for size in space.sizes]
    sizes, record.refused = deployed_sizes(space, defaults)
    if not sizes:
        why = next(iter(record.refused.values()), "no size is smaller than the teacher's")
        raise UserError("sizes", f"no candidate can be trained: {why}", "name other sizes, starts or methods")
    keys = {cost_key(space, candidate, size): size for candidate, size in sizes.items()}
    tokens = {
        cost_key(space, candidate, size): min(space.tokens_of(candidate.size), size.longest)
        for candidate, size in sizes.items()
    }
    bound = question.bound
    if (bound.tokens or 0) > (most := min(size.longest for size in sizes.values())):
        raise UserError("bound.tokens", f"{bound.tokens} tokens are more than the {most} a student reads", "lower it")
    where = f", on {bound.runtime}" if bound.is_timed else ""
    say(f"taking the costs of {len(keys)} sizes, with new weights{where}")
    costs = measure(keys, bound, tokens)
    record.costs = {key: cost.data() for key, cost in costs.of.items()}
    record.hardware, record.tokens, record.busy = costs.hardware, space.tokens, costs.busy
    record.too_dear = {key: limit for key, cost in costs.of.items() if (limit := cost.exceeds(bound))}
    if len(record.too_dear) == len(keys):
        raise _unmet(costs.of, question)


def _unmet(costs: dict[str, Cost], question: Question) -> UserError:
    """The limit that no size keeps to, and how near the nearest comes."""
    bound = question.bound
    for name, limit in bound.limits.items():
        nearest = min(costs, key=lambda key: costs[key].of(name))
        least = costs[nearest].of(name)
        if least > limit:
            return UserError(
                f"bound.{name}", f"no size keeps to {limit:g}: {nearest} comes nearest with {least:.4g} "
                f"{MEASURES[name]}", f"allow {least:.4g}, name smaller sizes, or choose another runtime",
            )  # fmt: skip
    return UserError("bound", "no size keeps to all limits at once", "allow more of one of them")


def cost_key(space: Space, candidate: Candidate, size: ModelSize) -> str:
    """By which the record knows a cost: the size, and the method where that deploys a size of its own."""
    plain = space.plan(space.run_of(candidate)).student_size == size
    return candidate.size if plain else f"{candidate.size} | {candidate.method}"
