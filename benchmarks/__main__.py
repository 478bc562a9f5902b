"""`python -m benchmarks [receive] [send] [latency] [durable] …`: none named means all of them."""

from __future__ import annotations

import sys

from benchmarks import command, durable, latency, receive, road, send, walker, wire

BENCHMARKS: dict[str, command.Benchmark] = {
    "walker": walker.run,
    "receive": receive.run,
    "latency": latency.run,
    "durable": durable.run,
    "send": send.run,
    "wire": wire.run,
    "road": road.run,
}
# Left out of --quick, where they are not named.
_LONG = {"wire", "road"}
# Whose cases they are, so that one may be asked for by its name alone.
CASES = {
    **dict.fromkeys(receive.NAMES, "receive"),
    **dict.fromkeys(latency.NAMES, "latency"),
    **dict.fromkeys(durable.NAMES, "durable"),
    **dict.fromkeys(send.NAMES, "send"),
    "walker": "walker",
    **dict.fromkeys(wire.NAMES, "wire"),
}


def main() -> int:
    """Run what was asked for; the exit code."""
    parser = command.parser("python -m benchmarks", tuple(CASES))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    of_cases = {CASES[case] for case in asked.case}
    wanted = set(asked.names) or of_cases or set(BENCHMARKS) - (_LONG if asked.quick else set())
    return command.run({name: BENCHMARKS[name] for name in BENCHMARKS if name in wanted}, asked)


if __name__ == "__main__":
    sys.exit(main())
