"""All benchmarks, or some: `python benchmarks/run.py [--only NAME ...] [--before COMMIT] [--runs N] [--quick]`.

Runs are interleaved (A B C A B C), so that what happens to the machine happens to all. Raw results are added
to benchmarks/results/, from which RESULTS.md and the plot are written anew after every scenario.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import scenarios
import store


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(scenarios.ALL), metavar="NAME",
                        help=f"one of: {', '.join(scenarios.ALL)}; may be repeated")  # fmt: skip
    parser.add_argument("--peers", help="only these peers, by name, separated by commas")
    parser.add_argument("--before", metavar="COMMIT", help="the product of an earlier commit is a peer, too")
    parser.add_argument("--runs", type=int, default=3, help="runs of each peer, interleaved (default 3)")
    parser.add_argument(
        "--fresh", action="store_true", help="forget earlier results of the scenarios run now"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: small sizes, recorded only with --into"
    )
    parser.add_argument(
        "--into", type=Path, help="keep results and report in this folder, not in benchmarks/"
    )
    parser.add_argument(
        "--report", action="store_true", help="run nothing, write RESULTS.md and the plot anew"
    )
    args = parser.parse_args(arguments)

    if args.into:
        store.RESULTS = args.into / "results"
    if args.report:
        write_report()
        return 0
    names = args.only or list(scenarios.QUICK if args.quick else scenarios.ALL)
    peers = set(args.peers.split(",")) if args.peers else None
    record = args.into is not None or not args.quick
    failed = 0
    for name in names:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        book = store.Book(name, record=record)
        if args.fresh:
            book.forget(peers)
        session = scenarios.Session(
            book=book,
            runs=1 if args.quick else args.runs,
            quick=args.quick,
            peers=peers,
            before=args.before and store.commit(args.before),
        )
        scenarios.ALL[name](session)
        failed += session.failed
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
        if record and (not args.quick or name == names[-1]):
            write_report()
    return 1 if failed else 0


def write_report():
    import report  # noqa: PLC0415  # matplotlib is slow to import and a quick run does not draw

    report.write()


if __name__ == "__main__":
    sys.exit(main())
