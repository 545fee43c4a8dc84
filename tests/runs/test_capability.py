"""What a worker says it can train, and that it takes nothing else."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from kdcore.config import TrainConfig
from kdcore.errors import UserError
from kdcore.events import RunFinished
from kdcore.runs.capability import capability
from kdcore.runs.work import work
from kdcore.runs.worker import Worker


@pytest.fixture
def gpus(monkeypatch):
    """As if GPUs of these sizes were here."""

    def make(*sizes: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(sizes))
        found = [SimpleNamespace(total_memory=size) for size in sizes]
        monkeypatch.setattr(torch.cuda, "get_device_properties", found.__getitem__)

    return make


def test_without_a_gpu_it_is_the_processor(gpus):
    gpus()
    ram = float(psutil.virtual_memory().total)
    assert capability() == capability("cpu") == {"auto": ram, "cpu": ram}
    assert capability("auto", 5.0) == {"auto": 5.0, "cpu": 5.0}
    for device in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match="no CUDA device"):
            capability(device)


def test_with_gpus_each_has_its_memory(gpus):
    gpus(24, 80)
    assert capability("auto", 7.0) == {"auto": 24, "cuda": 24, "cuda:0": 24, "cuda:1": 80, "cpu": 7}
    assert capability("cpu", 7.0) == {"auto": 7, "cpu": 7}
    assert capability("cuda") == capability("cuda:1") == {"auto": 24, "cuda": 24}


def test_worker_leaves_what_it_cannot_train(store, settings, gpus):
    gpus()
    far, near = store.add_run(settings(0, train=TrainConfig(device="cuda"))), store.add_run(settings(1))
    assert work(Worker(store, "auto", lambda *_: iter([RunFinished({})])), idle=0) == {near: "done"}
    assert store.get(far).state == "queued"


def test_named_run_is_tried_all_the_same(store, settings, gpus):
    gpus()
    far = store.add_run(settings(0, train=TrainConfig(device="cuda")))
    assert Worker(store, "auto").take(far) == far
