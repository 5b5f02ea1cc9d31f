"""The lock in a bucket: one owner at a time, however two of them interleave, and a lost one stops its load."""

from __future__ import annotations

import contextlib
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from dlt.pipeline.pipeline import Pipeline
from fsspec.implementations.memory import MemoryFileSystem

from paystack_source import paystack_source
from paystack_source.warehouse import bucket_lease
from paystack_source.warehouse.bucket_lease import BucketLease
from paystack_source.warehouse.destinations import read_table
from tests.events import PATIENCE


@pytest.fixture
def time(monkeypatch):
    """A clock in seconds that tests set."""
    clock = {"now": 1000.0}
    monkeypatch.setattr(bucket_lease, "_now", lambda: clock["now"])
    return clock


@pytest.fixture
def path():
    return f"/{uuid.uuid4().hex}/.paystack.paystack-source.lock"


class Interleaved(MemoryFileSystem):
    """A store in which something happens just before an object is created."""

    cachable = False

    def __init__(self, happens):
        super().__init__()
        self.happens = happens

    def pipe_file(self, *args, mode="overwrite", **kwargs):
        happens, self.happens = self.happens, lambda: None
        if mode == "create":
            happens()
        return super().pipe_file(*args, mode=mode, **kwargs)


def taken(path):
    gone = BucketLease(MemoryFileSystem(), path)
    assert gone.take()
    return gone


def waited(lease, time):
    """It has seen the lease, and then not change for long enough."""
    assert not lease.take()
    time["now"] += bucket_lease.LEASE_SECONDS + 1
    return lease


def test_who_waits_has_it_once_it_is_released(path, time):
    files = MemoryFileSystem()
    one, other = BucketLease(files, path), BucketLease(files, path)
    assert one.take()
    assert not other.take()
    with one:
        assert one.still_held()
    assert other.take()


def test_who_renews_keeps_it(path, time):
    one, other = BucketLease(MemoryFileSystem(), path), BucketLease(MemoryFileSystem(), path)
    assert one.take()
    for _ in range(5):
        assert not other.take()
        time["now"] += bucket_lease.LEASE_SECONDS / 2
        one.renew()
        assert one.still_held()


def test_of_two_who_find_it_expired_one_has_it(path, time):
    taken(path)
    second = BucketLease(MemoryFileSystem(), path)
    first = BucketLease(Interleaved(lambda: took.append(second.take())), path)
    took = []
    assert not second.take()
    waited(first, time)
    took.append(first.take())
    assert sorted(took) == [False, True]
    assert not first.take()
    assert not second.take()


def test_who_is_very_late_does_not_get_it_beside_a_later_owner(path, time):
    """It saw an expired lease; since then one owner had it and released it, and another one has it."""
    taken(path)
    between, later = BucketLease(MemoryFileSystem(), path), BucketLease(MemoryFileSystem(), path)

    def meanwhile():
        assert between.take()
        with between:
            pass
        assert later.take()

    late = BucketLease(Interleaved(meanwhile), path)
    assert not between.take()
    waited(late, time)
    assert not late.take()
    later.renew()
    assert later.still_held()


def test_an_owner_who_comes_back_while_it_is_taken_over_is_not_one_of_two(path, time):
    owner = taken(path)
    other = BucketLease(Interleaved(owner.renew), path)
    waited(other, time)
    assert not other.take()
    assert owner.still_held()


def test_an_owner_who_comes_back_too_late_knows_it(path, time):
    owner = taken(path)
    other = BucketLease(MemoryFileSystem(), path)
    waited(other, time)
    assert not owner.still_held()
    assert other.take()
    owner.renew()
    assert not owner.still_held()
    assert not owner.take()
    other.renew()
    assert other.still_held()


class World:
    """Runs that share a bucket, one step of one of them at a time: a step ends before and after each request.

    Each has a clock of its own. Time passes between steps, little or more than a lease; answers get lost.
    """

    def __init__(self, seed, names, monkeypatch):
        self.random, self.objects, self.now, self.current = random.Random(seed), {}, 0.0, names[0]
        self.clocks = {name: self.random.uniform(1, 1e9) for name in names}
        self.turns, self.back = {name: threading.Semaphore(0) for name in names}, threading.Semaphore(0)
        self.leases, self.taken, self.over = {}, 0, False
        self.restless = self.random.choice((0.05, 0.15, 0.4))
        monkeypatch.setattr(bucket_lease, "_now", lambda: self.clocks[self.current] + self.now)
        self.threads = {name: threading.Thread(target=self.act, args=(name,), daemon=True) for name in names}

    def run(self, steps):
        for thread in self.threads.values():
            thread.start()
        for _ in range(steps):
            self.now += self.random.choice((1, 5, 15, 40, 61)) if self.random.random() < 0.1 else 0
            another = self.random.random() < self.restless  # else one goes on, while the others are paused
            self.turn(self.random.choice(list(self.turns)) if another else self.current)
            current, holding = self.current, sum(map(self.holds, self.leases))
            self.current = current
            assert holding <= 1
        self.over = True
        for name, thread in self.threads.items():
            self.turns[name].release()
            thread.join(PATIENCE)

    def holds(self, name):
        self.current = name
        return self.leases[name].still_held()

    def turn(self, name):
        self.current = name
        self.turns[name].release()
        assert self.back.acquire(timeout=PATIENCE)

    def step(self):
        name = self.current
        self.back.release()
        self.wait(name)

    def wait(self, name):
        self.turns[name].acquire()
        if self.over:
            raise SystemExit

    def act(self, name):
        with contextlib.suppress(SystemExit):
            self.wait(name)
            while True:
                with contextlib.suppress(OSError):
                    self.hold(name)
                self.leases.pop(name, None)

    def hold(self, name):
        """Takes the lock and renews it; gives it up, loses it or dies."""
        lease = BucketLease(self, "bucket/lock")
        while not lease.take():
            self.step()
        self.leases[name], self.taken = lease, self.taken + 1
        while lease.still_held() and self.random.random() < 0.9:
            self.step()
            with contextlib.suppress(OSError):
                lease.renew()
        if self.random.random() < 0.7:
            del self.leases[name]
            with lease:
                pass

    # -- what a bucket can do

    def invalidate_cache(self):
        pass

    def requested(self, do):
        self.step()
        result = do()
        self.step()
        if self.random.random() < 0.02:
            raise OSError
        return result

    def ls(self, _folder, detail):
        assert not detail
        return self.requested(lambda: list(self.objects))

    def cat_file(self, path):
        content = self.requested(lambda: self.objects.get(path))
        if content is None:
            raise FileNotFoundError
        return content

    def rm_file(self, path):
        self.requested(lambda: self.objects.pop(path, None))

    def pipe_file(self, path, content, mode="overwrite"):
        def write():
            if mode == "create" and path in self.objects:
                return False
            self.objects[path] = content
            return True

        if not self.requested(write):
            raise FileExistsError


def test_no_two_hold_it_however_they_interleave_and_it_is_taken_again(monkeypatch):
    taken = 0
    for seed in range(40):
        world = World(seed, "abc"[: 2 + seed % 2], monkeypatch)
        world.run(1_500)
        taken += world.taken
    assert taken > 300


def test_a_real_bucket_gives_an_expired_one_to_one_of_many(s3, monkeypatch):
    monkeypatch.setattr(bucket_lease, "LEASE_SECONDS", 0.2)
    bucket = f"t{uuid.uuid4().hex[:12]}"
    s3.files().mkdir(bucket)
    assert BucketLease(s3.files(), f"{bucket}/.paystack.lock").take()
    waiting = [BucketLease(s3.files(), f"{bucket}/.paystack.lock") for _ in range(4)]
    assert not any(lease.take() for lease in waiting)
    threading.Event().wait(0.3)
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(BucketLease.take, waiting)) == 1


def test_a_load_whose_lease_is_lost_stops_before_it_commits(sandbox, warehouse, own_machine, monkeypatch):
    api, place, lost = sandbox(customers=150, seed=5), warehouse("parquet-s3"), threading.Event()
    source = partial(paystack_source, api.secret_key, api.url, quota=0)
    pipeline = place.pipeline(own_machine)
    pipeline.run(source())
    api.add_customers(3)
    begin = Pipeline.load

    def is_robbed(*args, **kwargs):
        lost.set()
        return begin(*args, **kwargs)

    with monkeypatch.context() as robbed:
        robbed.setattr(BucketLease, "still_held", lambda _lease: not lost.is_set())
        robbed.setattr(Pipeline, "load", is_robbed)
        with pytest.raises(PipelineStepFailed, match="was lost"):
            pipeline.run(source())
    assert lost.is_set()
    assert read_table(pipeline).num_rows == 150
    pipeline.run(source())
    assert read_table(pipeline).num_rows == 153
