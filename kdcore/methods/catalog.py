"""Titles of methods."""


def title_of(key: str) -> str:
    from kdcore.methods import METHODS

    return METHODS[key].title if key in METHODS else key[:40]
