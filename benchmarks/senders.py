"""Senders in Python, in a process that does nothing else: `python -m benchmarks.senders`.

It reads from standard input who is to send which files where, sends them, and says on standard
output what that took, without its own start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from appliance.errors import BrookboxError
from appliance.router import store_scu
from appliance.router.rules import Destination
from appliance.router.store_scu import SENT, Outgoing, Result
from appliance.settings import Settings
from benchmarks import account
from benchmarks.association import Address
from benchmarks.plan import NotMeasured

_PATIENCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Spent:
    """What sending took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def send(who: str, address: Address, outgoing: Sequence[Outgoing]) -> Spent:
    """Let one of SENDERS send files, in a process of its own; NotMeasured unless all are taken."""
    asked = {
        "who": who,
        "host": address.host,
        "port": address.port,
        "called_ae_title": address.called_ae_title,
        "files": [(one.sop_class_uid, one.sop_instance_uid, str(one.path)) for one in outgoing],
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.senders"],
        input=json.dumps(asked), capture_output=True, text=True, timeout=_PATIENCE_SECONDS,
    )  # fmt: skip
    if done.returncode != 0:
        raise NotMeasured(f"{who} did not send everything: {done.stderr.strip()[-500:]}")
    return Spent(**json.loads(done.stdout))


def main() -> int:
    """Send what standard input says; the exit code."""
    asked = json.load(sys.stdin)
    address = Address(asked["port"], asked["called_ae_title"], asked["host"])
    outgoing = [
        Outgoing(sop_class_uid, sop_instance_uid, str(ExplicitVRLittleEndian), Path(path))
        for sop_class_uid, sop_instance_uid, path in asked["files"]
    ]
    began, cpu = time.perf_counter(), time.process_time()
    try:
        SENDERS[asked["who"]](address, outgoing)
    except (BrookboxError, NotMeasured) as problem:
        print(problem, file=sys.stderr)
        return 1
    spent = Spent(
        time.perf_counter() - began, time.process_time() - cpu, account.peak_mb([os.getpid()])
    )
    print(json.dumps(asdict(spent)))
    return 0


def _by_brookbox(address: Address, outgoing: Sequence[Outgoing]) -> None:
    title, host, port = address.called_ae_title, address.host, address.port
    destination = Destination("sink", title, host, port, "BROOKBOX")
    results: list[Result] = []
    store_scu.send(destination, outgoing, Settings(), on_result=results.append)
    sent = sum(1 for one in results if one.kind == SENT)
    if sent != len(outgoing):
        raise NotMeasured(f"Brookbox sent {sent} of {len(outgoing)} instances")


def _by_pynetdicom(address: Address, outgoing: Sequence[Outgoing]) -> None:
    ae = AE("PYNETDICOM")
    for sop_class_uid in dict.fromkeys(one.sop_class_uid for one in outgoing):
        ae.add_requested_context(sop_class_uid, ExplicitVRLittleEndian)
    assoc = ae.associate(address.host, address.port, ae_title=address.called_ae_title)
    statuses = [assoc.send_c_store(one.path) for one in outgoing]
    assoc.release()
    if wrong := [one for one in statuses if "Status" not in one or one.Status != 0]:
        raise NotMeasured(f"pynetdicom was answered {wrong[0]}")


SENDERS: dict[str, Callable[[Address, Sequence[Outgoing]], None]] = {
    "brookbox": _by_brookbox,
    "pynetdicom": _by_pynetdicom,
}

if __name__ == "__main__":
    sys.exit(main())
