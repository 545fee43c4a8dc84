"""The queue and the state machine: who may follow whom, and who holds what."""

import itertools

import pytest

from kdcore.errors import UserError
from kdcore.events import Progress, RunFailed, RunFinished, RunStarted, RunStopped, StageStarted
from kdcore.store import ACTIVE, STATES, LeaseLostError

WAYS = {  # state -> how to get a fresh run there
    "queued": [],
    "starting": ["starting"],
    "running": ["starting", "running"],
    "done": ["starting", "done"],
    "stopped": ["starting", "stopped"],
    "failed": ["starting", "failed"],
    "interrupted": ["starting", "interrupted"],
    "cancelled": ["cancelled"],
}
ALLOWED = {
    ("queued", "starting"), ("queued", "cancelled"), ("queued", "failed"),
    ("stopped", "queued"), ("failed", "queued"), ("interrupted", "queued"), ("interrupted", "failed"),
    ("cancelled", "queued"),
    *itertools.product(ACTIVE, ("starting", "running", "done", "stopped", "failed", "interrupted")),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), itertools.product(STATES, STATES))
def test_state_follows_only_where_it_may(store, settings, before, after):
    run = store.add_run(settings())
    for state in WAYS[before]:
        store.set_state(run, state)
    assert store.get(run).state == before
    if (before, after) in ALLOWED:
        store.set_state(run, after, reason="why", remedy="what to do")
        row = store.get(run)
        assert (row.state, row.reason, row.remedy) == (after, "why", "what to do")
    else:
        with pytest.raises(UserError, match=before):
            store.set_state(run, after)
        assert store.get(run).state == before


def test_events_move_the_state(store, settings, step):
    run = store.add_run(settings())
    assert store.get(run).state == "queued"
    assert store.claim("w", "cpu") == run
    assert store.get(run).state == "starting"
    for event, state in (
        (RunStarted({"steps": 10, "device": "cpu", "parameters": 1234}), "running"),
        (Progress("teacher large answers once", 1, 2), "running"),
        (StageStarted("distil", 0, 1, 10), "running"),
        (step(5), "running"),
        (RunFinished({"seconds": 9.0}), "done"),
    ):
        store.record(run, [event], worker="w")
        assert store.get(run).state == state
    row = store.get(run)
    assert row.finished and row.worker is None and row.device == "cpu"
    assert row.facts["parameters"] == 1234 and row.facts["stages"][0]["stage"] == "distil"
    listed = store.runs().iloc[0]
    assert (listed.parameters, listed.seconds, listed.progress) == (1234, 9.0, 1.0)


@pytest.mark.parametrize("kept", [True, False])
def test_stop_and_failure_end_a_run_and_its_lease(store, settings, kept):
    stopped, failed = store.add_run(settings(0)), store.add_run(settings(1))
    assert store.claim("a", "cpu") == stopped and store.claim("b", "cpu") == failed
    store.record(stopped, [RunStopped(7, kept)], worker="a")
    store.record(failed, [RunFailed("it broke", "mend it", "line 1\nline 2")], worker="b")
    row = store.get(stopped)
    assert row.state == "stopped" and ("saved" in row.reason) == kept and "7" in row.reason
    row = store.get(failed)
    assert (row.state, row.reason, row.remedy, row.detail) == ("failed", "it broke", "mend it", "line 1\nline 2")
    assert not store.renew(failed, "b")


def test_progress_and_remaining_time(store, settings, step):
    run = store.add_run(settings())
    store.record(run, [step(5, steps=20)])
    progress = store.get(run).progress
    # 15 steps of 32 rows at 64 rows a second
    assert (progress["step"], progress["steps"], progress["eta_s"]) == (5, 20, 7.5)
    store.record(run, [Progress("filling the cache", 3, 9)])
    progress = store.get(run).progress
    assert (progress["what"], progress["done"], progress["total"], progress["step"]) == ("filling the cache", 3, 9, 5)


def test_queue_is_served_in_order_and_can_be_reordered(store, settings):
    a, b, c, d = (store.add_run(settings(seed)) for seed in range(4))
    store.move(d, -2)  # a d b c
    store.move(a, 1)  # d a b c
    store.move(b, 99)  # d a c b
    store.cancel(c)
    assert [store.claim("w", "cpu") for _ in range(4)] == [d, a, b, None]
    assert store.get(c).state == "cancelled"
    with pytest.raises(UserError, match="not in the queue"):
        store.move(d, 1)
    with pytest.raises(UserError, match="starting"):
        store.cancel(d)


def test_busy_is_a_run_that_waits_or_trains(store, settings):
    assert not store.busy()
    run = store.add_run(settings(0))
    assert store.busy()
    store.claim("w", "cpu", run)
    assert store.busy()
    store.set_state(run, "failed", "oh", "well", "detail")
    assert not store.busy()


def test_requeued_run_waits_behind_the_others(store, settings):
    first, second = store.add_run(settings(0)), store.add_run(settings(1))
    store.claim("w", "cpu", first)
    store.set_state(first, "failed", "oh", "well", "detail")
    store.requeue(first)
    row = store.get(first)
    assert (row.state, row.reason, row.detail, row.finished) == ("queued", "", "", None)
    assert [store.claim("w", "cpu") for _ in range(3)] == [second, first, None]


def test_done_run_cannot_be_queued_again(store, settings):
    run = store.add_run(settings())
    store.record(run, [RunFinished({})])
    with pytest.raises(UserError, match="clone"):
        store.requeue(run)


def test_claim_of_one_run_takes_only_that_one_and_only_once(store, settings):
    first, second = store.add_run(settings(0)), store.add_run(settings(1))
    assert store.claim("w", "cpu", second) == second
    assert store.claim("v", "cpu", second) is None
    assert store.claim("v", "cpu", "no-such-run") is None
    assert store.claim("v", "cpu") == first


@pytest.mark.parametrize(("keep", "word"), [(True, "keep"), (False, "discard")])
def test_stop_request_reaches_the_worker_and_is_forgotten_at_the_end(store, settings, keep, word):
    run = store.add_run(settings())
    store.claim("w", "cpu")
    assert store.stop_requested(run) is None
    store.request_stop(run, keep)
    assert store.stop_requested(run) == word
    store.record(run, [RunStopped(3, keep)], worker="w")
    assert store.stop_requested(run) is None
    with pytest.raises(UserError, match="nothing to stop"):
        store.request_stop(run)


def test_stop_of_a_queued_run_cancels_it(store, settings):
    run = store.add_run(settings())
    store.request_stop(run)
    assert store.get(run).state == "cancelled" and store.claim("w", "cpu") is None


def test_only_the_holder_renews_releases_and_records(store, settings, step):
    run = store.add_run(settings())
    store.claim("mine", "cpu")
    assert store.renew(run, "mine") and not store.renew(run, "other")
    assert not store.release(run, "other")
    with pytest.raises(LeaseLostError):
        store.record(run, [step(1)], worker="other")
    assert store.metrics(run).empty
    assert store.release(run, "mine")
    row = store.get(run)
    assert (row.state, row.remedy) == ("interrupted", "resume it")
    with pytest.raises(LeaseLostError):
        store.record(run, [step(1)], worker="mine")


def test_unknown_run_is_an_error_that_names_it(store):
    for call in (
        lambda: store.get("nope"), lambda: store.record("nope", []), lambda: store.delete("nope"),
        lambda: store.requeue("nope"), lambda: store.rename("nope", "x"), lambda: store.probes("nope"),
        lambda: store.request_stop("nope"), lambda: store.annotate("nope"),
    ):  # fmt: skip
        with pytest.raises(UserError, match="nope"):
            call()
    assert store.stop_requested("nope") is None


def test_ensure_finds_adds_and_requeues(store, settings):
    run, state = store.ensure(settings(0), sweep="s")
    assert state == "queued" and store.get(run).sweep == "s"
    assert store.ensure(settings(0, name="another name"))[0] == run
    assert store.ensure(settings(1))[0] != run
    store.claim("w", "cpu", run)
    assert store.ensure(settings(0)) == (run, "starting")
    store.set_state(run, "failed")
    assert store.ensure(settings(0)) == (run, "queued")
    store.claim("w", "cpu", run)
    store.record(run, [RunFinished({})])
    assert store.ensure(settings(0)) == (run, "done")
    again = store.add_run(settings(0))  # a clone does not hide the finished one
    assert again != run and store.ensure(settings(0)) == (run, "done")


def test_filters_of_the_list(store, settings):
    a = store.add_run(settings(0), sweep="s")
    b = store.add_run(settings(1), parent=a)
    store.archive(a)
    assert list(store.runs().id) == [b]
    assert list(store.runs(include_archived=True).id) == [b, a]
    assert list(store.runs(include_archived=True, sweep="s").id) == [a]
    assert list(store.runs(states=["done"]).id) == [] and store.runs(states=[]).empty
    assert store.get(b).parent == a
    store.archive(a, False)
    assert len(store.runs()) == 2
