"""What a candidate's size costs is measured on a model of just that size, of whatever form."""

from dataclasses import replace

import pytest

from kdcore.models.count import parameters
from kdcore.models.sizes import size_of
from kdcore.search.costs import _untrained
from tests.helpers import tiny_task


@pytest.mark.parametrize(
    "form", [{}, {"form": "kronecker-8"}, {"pooled_width": 24, "projection_width": 12}],
    ids=["plain", "factors", "projection"],
)  # fmt: skip
def test_the_model_that_is_timed_has_the_size_that_is_deployed(form):
    size = replace(tiny_task.SIZE, labels=2, **form)
    model = _untrained(size)
    assert size_of(model.config) == size
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters(size).total
