"""Which of the domains of its data a method aims at."""

from __future__ import annotations

from kdcore.errors import UserError
from kdcore.records import Setup


def target_domain(name: str, setup: Setup, rewarded: bool) -> int:
    """The number of the target: the domain of this name, or the one with the fewest rows to train on.

    Args:
        rewarded: whether `select` has to hold rows of it.

    Raises:
        UserError: no such domain, or no rows of it where they are needed.
    """
    names = setup.domains or ("target", "source")
    rows = setup.domain_rows or ((1, 1),) * len(names)
    if name and name not in names:
        raise UserError("options.target", f"the data name no domain {name!r}", f"name one of {', '.join(names[:12])}")
    fit = [number for number, (trained, held) in enumerate(rows) if trained and (held or not rewarded)]
    number = names.index(name) if name else min(fit or range(len(names)), key=rows.__getitem__)
    if number not in fit:
        why = "held out in `select`, so that nothing rewards the selector" if rows[number][0] else "there to learn from"
        other = "name another one, set selection to all" if rows[number][0] else "name another one"
        raise UserError("options.target", f"no row of {names[number]} is {why}", f"{other}, or train on more rows")
    return number
