"""Seeds that follow from words: changing one choice changes one stream of random numbers and no other."""

from __future__ import annotations

import hashlib


def seed_of(seed: int, *words: object) -> int:
    """A 63-bit seed for the stream that `words` name, under the run's seed."""
    text = "/".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
