"""A simulated server with fixed windows, and a simulated crowd of threads that keeps to a `Budget`."""

import heapq
import itertools
import math
from dataclasses import dataclass, field
from email.utils import formatdate
from random import Random

from paystack_source.api.quota import Budget, read_headers

EPOCH = 1_795_000_000.25  # the server's wall clock when the simulation begins


@dataclass
class Server:
    """Fixed windows at any anchor; `headers` always, on_429 or never; `reset` relative or epoch."""

    limit: int
    anchor: float
    length: float = 60.0
    headers: str = "always"
    reset: str = "relative"
    rounding: object = math.ceil
    date: bool = True
    counts_refused: bool = False
    window: int = -(10**9)
    used: int = 0
    refused: int = 0
    granted: int = 0

    def take(self, now, *, ours=True):
        """Whether the request is granted, and its headers."""
        window = math.floor((now - self.anchor) / self.length)
        if window != self.window:
            self.window, self.used = window, 0
        granted = self.used < self.limit
        self.used += granted
        if ours:
            self.granted += granted
            self.refused += not granted
        end = self.anchor + (window + 1) * self.length
        headers = {"date": formatdate(math.floor(EPOCH + now), usegmt=True)} if self.date else {}
        if self.headers == "always" or (self.headers == "on_429" and not granted):
            reset = self.rounding(EPOCH + end) if self.reset == "epoch" else max(0, self.rounding(end - now))
            headers |= {
                "x-ratelimit-limit": str(self.limit),
                "x-ratelimit-remaining": str(self.limit - self.used),
                "x-ratelimit-reset": str(reset),
            }
        return granted, headers


@dataclass
class Crowd:
    """`threads` threads that send as fast as the budget allows; latency is drawn by `latency(random)`."""

    server: Server
    budget: Budget
    threads: int
    latency: object
    random: Random
    others: list = field(default_factory=list)  # moments at which somebody else sends
    lost: float = 0.0  # share of answers that never arrive
    clock_error: float = 0.0  # this machine's wall clock against the server's
    now: float = 0.0

    def run(self, seconds):
        """Simulate; returns the moments at which requests were granted."""
        order = itertools.count()
        events = [(moment, next(order), "other", None) for moment in self.others]
        events.append((0.0, next(order), "look", None))
        heapq.heapify(events)
        in_flight, granted, next_look = 0, [], math.inf
        while events:
            self.now, _, what, data = heapq.heappop(events)
            if self.now > seconds:
                break
            if what == "look" and self.now >= next_look:
                next_look = math.inf
            if what == "other":
                self.server.take(self.now, ours=False)
                continue
            if what == "arrive":
                sent, down = data
                answer = self.server.take(self.now)
                if answer[0]:
                    granted.append(self.now)
                heapq.heappush(events, (self.now + down, next(order), "answer", (sent, answer)))
                continue
            if what == "answer":
                sent, (ok, headers) = data
                in_flight -= 1
                if self.random.random() < self.lost:
                    self.budget.settle(sent, self.now)
                else:
                    reading = read_headers(headers, EPOCH + self.now + self.clock_error)
                    self.budget.settle(sent, self.now, reading, refused=not ok)
            while in_flight < self.threads:
                wait = self.budget.wait(self.now)
                if wait > 0:
                    if self.now + wait < next_look:
                        next_look = self.now + wait
                        heapq.heappush(events, (self.now + wait, next(order), "look", None))
                    break
                self.budget.charge()
                in_flight += 1
                up, down = self.latency(self.random), self.latency(self.random)
                heapq.heappush(events, (self.now + up, next(order), "arrive", (self.now, down)))
        return granted
