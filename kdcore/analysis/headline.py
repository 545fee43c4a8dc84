"""Which method of a comparison is ahead, in one sentence, or why that cannot be said."""

from __future__ import annotations

from dataclasses import dataclass

from kdcore.analysis.comparison import Comparison, Reader
from kdcore.analysis.row_scores import contributions_of
from kdcore.analysis.significance import MIN_PAIRED_SEEDS, Verdict


@dataclass(frozen=True)
class Headline:
    """claim: who is ahead, by how much and over how many seeds; empty where nothing can be claimed. doubt: what speaks
    against it, or what is missing. real: whether a test has shown the claim."""

    claim: str
    doubt: str
    real: bool = False

    @property
    def text(self) -> str:
        return " ".join(part for part in (self.claim, self.doubt) if part)


def headline(comparison: Comparison, read: Reader = contributions_of) -> Headline:
    """The best group by its mean, against the baseline; where the baseline is best, against the next one."""
    finished, labels = comparison.finished, comparison.labels
    means = finished.groupby("group", sort=False)["score"].mean().sort_values(ascending=False, kind="stable")
    if means.empty:
        return Headline("", "No run is finished yet, so nothing can be said.")
    if len(means) == 1:
        group = str(means.index[0])
        seeds = int((finished["group"] == group).sum())
        return Headline(
            f"{labels[group]} scores {100 * means.iloc[0]:.1f} ({_seeds(seeds)}).",
            "Choose finished runs of a second method to compare it with.",
        )
    baseline = comparison.baseline if comparison.baseline in means.index else str(means.index[1])
    best = str(means.index[0] if means.index[0] != baseline else means.index[1])
    answer = comparison.answer(best, baseline, read)
    names = labels[best], labels[baseline]
    if answer.verdict is None:
        return Headline("", f"Which is better cannot be said: {answer.sentence}")
    if not answer.verdict.seeds:
        return Headline("", f"Which is better cannot be said: {names[0]} and {names[1]} share no finished seed.")
    return _of_verdict(answer.verdict, *names, alone=len(means) == 2)


def _of_verdict(verdict: Verdict, first: str, second: str, alone: bool) -> Headline:
    """alone: there are no other groups."""
    gap, seeds = 100 * verdict.gap, _seeds(len(verdict.seeds), "paired seed")
    size = f"{abs(gap):.1f} point{'' if f'{abs(gap):.1f}' == '1.0' else 's'}"
    if round(gap, 1) == 0:
        claim = f"{first} and {second} are level ({seeds})."
    elif gap > 0:
        claim = f"{first} is ahead of {second} by {size} ({seeds})."
    elif alone:
        claim = f"{first} is behind {second} by {size} ({seeds})."
    else:
        claim = f"No method is ahead of {second}; the nearest, {first}, is behind by {size} ({seeds})."
    if not verdict.enough:
        return Headline(claim, f"Whether that is more than chance takes {MIN_PAIRED_SEEDS} paired seeds.")
    ends = sorted((100 * verdict.low, 100 * verdict.high) if gap >= 0 else (-100 * verdict.low, -100 * verdict.high))
    interval = f"{verdict.level:.0%} interval {ends[0]:+.1f} to {ends[1]:+.1f}"
    if verdict.real:
        return Headline(claim, f"The difference is real ({interval}).", real=True)
    return Headline(claim, f"That can be chance ({interval}).")


def _seeds(count: int, word: str = "seed") -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
