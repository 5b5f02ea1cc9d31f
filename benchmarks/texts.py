"""The prose of RESULTS.md."""

HEAD = """\
# Benchmark results

Written by `python benchmarks/run.py` from `benchmarks/results/`; do not edit by hand.

Measured {dates}, the latest on {cores} cores of {cpu}, {memory_gib} GiB, {system}, Python {python};
{versions}. Each row has the day of its last run. Earlier runs may be of another machine and an earlier version of
the product: compare rows of one day.
The peers' versions are pinned in `benchmarks/requirements-*.txt`.

![Time of each way to copy or change customers](results/plot.svg)

## Targets

| target | measured | |
| --- | ---: | --- |
"""

SCENARIOS = {
    "cpu": """\
## CPU-bound: 1,000,000 customers, no latency, no quota

How much work each way needs. The sandbox has one core to itself, the reader the other.

The floor uses bare sockets, and one `insert` after another. Two more rows show what the product's libraries cost:
the floor over urllib3, and the floor over urllib3 with one dlt load that only appends. The rest is the product's
own: the quota, the proof, and several merges, so that a kill loses little.
""",
    "latency": """\
## Latency-bound: 20,000 customers, 300 ms an answer, no quota

200 pages: read one after the other, they take 60 s of pure waiting.
""",
    "memory": """\
## Memory: 3,000,000 customers, 150 ms an answer

The product alone, at three times the size. Slow answers fill each load more than fast ones do.
""",
    "quota": """\
## Quota-bound: 180,000 customers, 300 ms an answer, 600 requests per 60 s in real time

The ideal is computed: as many requests as the run sent, each as early as the quota's windows allow, and no time
for anything but waiting.
""",
    "empty": """\
## An empty increment on 1,000,000 rows

`--refresh-budget 0`, from process start to exit; `load` is the first load.
""",
    "merge": """\
## 100 new customers into 5,000,000 rows

`--refresh-budget 0`, from process start to exit; `load` is the first load.
""",
    "bulk-latency": """\
## Bulk: 2,000 risk actions, 50 ms an answer, no quota

The product reads a CSV, checks it, plans, journals every row before and after with fsync, sends, and writes
results; the others only send.
""",
    "bulk-quota": """\
## Bulk: 2,000 risk actions, 300 ms an answer, 600 requests per 60 s in real time

The product alone; the ideal as above.
""",
    "bulk-journal": """\
## Bulk: what the journal costs

2,000 risk actions at 50 ms, with fsync and without.
""",
    "bulk-plan": """\
## Bulk: a plan of 1,000,000 rows against 1,000,000 customers

Every row is a change; `load` is the copy that the plan reads.
""",
}

SCALED = """\
\\* read {size:,} customers; its time is scaled to {full:,} in proportion, start-up counted once. Its memory
and its rows are those of the smaller run; a full run needs more memory.
"""

FOOT = """\
## How to read and repeat this

- `make bench`, or `python benchmarks/run.py --only cpu --runs 5`; `--fresh` forgets earlier results of that
  scenario; `--before COMMIT` measures the product of that commit, too, with the libraries of today. A full run
  takes about an hour and builds the peers' environments under `.benchmark-envs/`.
- Every time is wall time of a whole process, from start to exit, imports included. Runs of all peers are
  interleaved. The last five runs of each peer count.
- All peers read the same local sandbox, a process of its own that was read once before the first run. The
  benchmark counts the rows in their DuckDB files; it does not ask the peers.
- Memory is the peak of the whole process tree. Noise is the share of the machine that was busy with
  something else in the worst run; above a tenth, a figure should be measured again.
- The peers get help: the naive loop has a session and pages of 100, `rest_api` is told its paginator,
  `pypaystack2` keeps rows that its models refuse. The floor proves nothing and retries nothing; it shows what
  the machine can do.
- Airbyte's connector asks for pages of 200 and takes a shorter page for the last one. The sandbox caps pages at
  100, so it loses rows here. Paystack's own cap is not documented: whether it loses rows there is not known. It is
  run from its published package (1.0.11), the newest one.
"""
