"""Who did what to whom: the active and the passive say the same, unless two of the persons changed places."""

from __future__ import annotations

from random import Random

PERSONS = ["cat", "dog", "king", "nurse", "farmer", "pilot", "clown", "judge", "thief", "baker"]
ADJECTIVES = ["old", "young", "tall", "happy", "angry", "quiet"]
VERBS = {"chased": "followed", "helped": "assisted", "called": "phoned", "thanked": "praised", "saw": "spotted"}
PLACES = ("in the park", "at the station", "near the river", "after lunch", "on monday", "during the storm")
FORMS = {"saw": "seen"}


def row(random: Random, label: int) -> tuple[tuple[str, ...], int]:
    """Two sentences, 1 = they say the same."""
    agent, patient = random.sample(PERSONS, 2)
    one, two = random.sample(ADJECTIVES, 2)
    verb = random.choice(list(VERBS))
    place = random.choice(PLACES)
    first = ((one, agent), (two, patient))
    second = first
    if not label:
        second = ((two, agent), (one, patient)) if random.random() < 0.4 else ((two, patient), (one, agent))
    return (_say(random, verb, first, place), _say(random, verb, second, place)), label


def _say(random: Random, verb: str, roles: tuple[tuple[str, str], tuple[str, str]], place: str) -> str:
    verb = random.choice((verb, VERBS[verb]))
    (one, agent), (two, patient) = roles
    subject, other = f"the {one} {agent}", f"the {two} {patient}"
    if random.random() < 0.5:
        text = f"{subject} {verb} {other}"
    else:
        text = f"{other} was {FORMS.get(verb, verb)} by {subject}"
    return f"{place} {text}" if random.random() < 0.3 else f"{text} {place}"
