"""Two tellings of one event: the second says less (entailment), more (neutral) or something else (contradiction)."""

from __future__ import annotations

from random import Random

from kdcore.data.pocket.entailment import ADJECTIVES, KINDS, PLACES, VERBS

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
Telling = tuple[str, str]
"""A part of the sentence in premise and hypothesis."""


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """Premise and hypothesis; 0 = entailment, 1 = neutral, 2 = contradiction, as MNLI numbers them.

    One part has the label's change, the others that or a milder one: a contradiction may also say more, and both may
    also say less. So neutral lies between. A place is never added, only left out or exchanged: its mere presence in
    one sentence would give the label away.
    """
    changes = [random.randint(ENTAILMENT, label) for _ in range(3)]
    changes[random.randrange(3 if label == CONTRADICTION else 2)] = label
    subject, what = _noun_phrase(random, changes[0]), _noun_phrase(random, changes[1])
    verb, place = random.choice(VERBS), _place(random, changes[2] == CONTRADICTION)
    premise, hypothesis = (f"the {subject[at]} {verb} the {what[at]} {place[at]}".strip() for at in (0, 1))
    return (premise, hypothesis), label


def _noun_phrase(random: Random, change: int) -> Telling:
    """A noun phrase, and one that says less of the same, more, or names another. Each may have an adjective."""
    kind = random.choice(list(KINDS))
    noun, (adjective, second) = random.choice(KINDS[kind]), random.sample(ADJECTIVES, 2)
    if change == ENTAILMENT:
        told = random.choice(((noun, kind), (f"{adjective} {noun}", noun), (noun, noun)))
    elif change == NEUTRAL:
        told = random.choice(((kind, noun), (noun, f"{adjective} {noun}"), (f"{adjective} {noun}", f"{second} {noun}")))
    else:
        told = noun, random.choice([each for nouns in KINDS.values() for each in nouns if each != noun])
    if adjective in f"{told[0]} {told[1]}" or random.random() < 0.5:
        return told
    return f"{adjective} {told[0]}", f"{adjective} {told[1]}"


def _place(random: Random, other: bool) -> Telling:
    """A place, and the same, none or another in the hypothesis; or none in both."""
    place = random.choice(PLACES)
    if other:
        return place, random.choice([each for each in PLACES if each != place])
    return random.choice(((place, place), (place, place), (place, ""), ("", "")))
