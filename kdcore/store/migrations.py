"""From each version of the tables to the next. A step says itself what it needs: `tables.py` goes on changing."""

from __future__ import annotations

import json

from sqlalchemy import Connection, text


def add_claims(connection: Connection) -> None:
    """Version 1 to 2: what a worker must have to train a run, on which computer it was, and how often it was lost."""
    for column in (
        "node TEXT DEFAULT '' NOT NULL",
        "train_device TEXT DEFAULT 'auto' NOT NULL",
        "memory FLOAT",
        "attempts INTEGER DEFAULT 0 NOT NULL",
        "lost BOOLEAN DEFAULT FALSE NOT NULL",
    ):
        connection.execute(text(f"ALTER TABLE runs ADD COLUMN {column}"))
    for number, config in connection.execute(text("SELECT number, config FROM runs")).all():
        device = _train_device(config)
        if device != "auto":
            values = {"device": device, "number": number}
            connection.execute(text("UPDATE runs SET train_device = :device WHERE number = :number"), values)


def add_claim_numbers(connection: Connection) -> None:
    """Version 2 to 3: which claim of a run is the latest."""
    connection.execute(text("ALTER TABLE runs ADD COLUMN claim_number BIGINT DEFAULT 0 NOT NULL"))


def _train_device(config: str) -> str:
    """train.device of the settings in a cell; of settings that cannot be read, the default."""
    try:
        return str(json.loads(config)["train"]["device"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "auto"
