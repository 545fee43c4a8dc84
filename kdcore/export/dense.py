"""A student of Kronecker products with its matrices multiplied out: a plain BERT folder that every tool reads."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kdcore.export.record import StudentRecord


@contextlib.contextmanager
def dense_record(record: StudentRecord) -> Iterator[StudentRecord]:
    """Within the block, the record of the plain student that answers the same; its size is that of whole matrices.

    Raises:
        UserError: the student is plain already.
    """
    from kdcore.models.count import flops, parameters
    from kdcore.models.sizes import size_of
    from kdcore.models.students import dense_model, load_classifier
    from kdcore.models.weights import write_model

    model = dense_model(load_classifier(record.folder))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / record.folder.name
        shutil.copytree(record.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        write_model(model, folder)
        size = size_of(model.config)
        tokens = int(record.facts.get("mean_tokens") or 0)
        facts = {
            **record.facts, "student": {**record.facts.get("student", {}), "form": size.form},
            "exported_parameters": parameters(size).total, "flops": flops(size, tokens) if tokens else None,
        }  # fmt: skip
        yield replace(record, folder=folder, facts=facts)
