"""Which device a setting means, on computers with other devices than this one."""

import pytest
import torch
from pydantic import ValidationError

from kdcore.config import TrainConfig
from kdcore.engine import device
from kdcore.engine.device import compute_for
from kdcore.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """As if so many GPUs were here."""

    def make(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(device, "has_fast_bf16", lambda name: name == "cuda:1")

    return make


@pytest.mark.parametrize(
    ("count", "setting", "meant"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (1, "auto", "cuda"), (2, "cuda", "cuda"), (2, "cuda:1", "cuda:1"),
     (2, "cuda:0", "cuda:0"), (2, "cpu", "cpu")],
)  # fmt: skip
def test_setting_means_a_device(gpus, count, setting, meant):
    gpus(count)
    assert compute_for(TrainConfig(device=setting)).device == torch.device(meant)


@pytest.mark.parametrize(
    ("count", "setting", "words"),
    [(0, "cuda", "no CUDA device"), (0, "cuda:0", "no CUDA device"), (1, "cuda:1", "no GPU cuda:1.*cuda:0$"),
     (3, "cuda:3", "cuda:0 to cuda:2")],
)  # fmt: skip
def test_device_that_is_not_there_is_named(gpus, count, setting, words):
    gpus(count)
    with pytest.raises(UserError, match=words) as caught:
        compute_for(TrainConfig(device=setting))
    assert caught.value.field == "train.device"


def test_precision_is_that_of_the_gpu_that_is_named(gpus):
    gpus(2)
    found = [compute_for(TrainConfig(device=name)).precision for name in ("cuda:0", "cuda:1")]
    assert found == ["fp32", "bf16"]


@pytest.mark.parametrize("setting", ["tpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", "CUDA", "cpu:0", "cuda:1234"])
def test_word_that_is_no_device_is_refused(setting):
    with pytest.raises(ValidationError, match="cuda:1"):
        TrainConfig(device=setting)
