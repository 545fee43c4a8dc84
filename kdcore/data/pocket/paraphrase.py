"""Who did it to whom: a passive, or a verb and its reverse, says the same with the two in another order."""

from __future__ import annotations

from random import Random

PRONOUNS = (("he", "him", "was"), ("she", "her", "was"), ("they", "them", "were"), ("we", "us", "were"))
"""As subject, as object, and the form of "to be" that goes with it."""
NOUNS = ["king", "nurse", "farmer", "pilot", "clown", "judge", "dog", "horse", "fox", "goose", "bear", "lion"]
ADJECTIVES = ["old", "young", "tall", "angry", "quiet"]
PLACES = ("in the park", "at the station", "near the river", "after lunch", "on monday", "last night")
VERBS = ("chased", "pursued", "hunted", "followed")
REVERSED = ("fled", "avoided", "escaped", "dodged")
"""What the other one of the two did meanwhile."""

USUAL = 0.62
"""Chance that the pronoun is the chaser. Above one half, so that single words hint at first."""
TURNED = 0.22
"""Chance of a passive, and of a reversed verb, in one of the two sentences; the other is plain."""


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """Two sentences, 1 = they say the same; in the others the two have changed places."""
    noun = random.choice(NOUNS)
    if random.random() < 0.3:
        noun = f"{random.choice(ADJECTIVES)} {noun}"
    pronoun, place, does = random.choice(PRONOUNS), random.choice(PLACES), random.random() < USUAL
    turned = random.choices(("plain", "passive", "reversed"), (1 - 2 * TURNED, TURNED, TURNED))[0]
    forms = random.sample(("plain", turned), 2)
    first, second = (
        _say(random, pronoun, noun, chaser, form, place)
        for chaser, form in zip((does, does == bool(label)), forms, strict=True)
    )
    return (first, second), label


def _say(random: Random, pronoun: tuple[str, str, str], noun: str, pronoun_does: bool, form: str, place: str) -> str:
    subject, object_, were = pronoun
    verb = random.choice(REVERSED if form == "reversed" else VERBS)
    if form == "passive":
        text = f"the {noun} was {verb} by {object_}" if pronoun_does else f"{subject} {were} {verb} by the {noun}"
    elif pronoun_does == (form == "plain"):
        text = f"{subject} {verb} the {noun}"
    else:
        text = f"the {noun} {verb} {object_}"
    return f"{place} {text}" if random.random() < 0.3 else f"{text} {place}"
