"""The open alerts among the doctor's findings: in their own words, each once.

What the doctor found well of the same matter is left out: it cannot be well.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.health.alerts import URGENT
from appliance.health.finding import Finding, warn, wrong
from appliance.index.alerts import Alert

_OF_STREAMS = {"stream", "broken", "doubled", "waiting"}
_OF_THE_NODE = {"disk": "space", "backup": "backup", "quarantine": "quarantine", "clock": "clock"}


def with_alerts(findings: Sequence[Finding], alerts: Sequence[Alert]) -> list[Finding]:
    """Give the findings with the alerts behind them; what both say stands once."""
    told = " ".join(one.sentence for one in findings if one.level != "ok")
    new = [alert for alert in alerts if alert.sentence not in told]
    abouts = {_about(alert) for alert in alerts}
    said = " ".join(alert.sentence for alert in new)
    kept = [
        one
        for one in findings
        if not (one.level == "ok" and one.about in abouts)
        and not (one.level != "ok" and one.about in abouts and one.sentence in said)
    ]
    return [*kept, *map(_finding, new)]


def _finding(alert: Alert) -> Finding:
    make = wrong if alert.kind in URGENT else warn
    return make(_about(alert), alert.sentence, alert.remedy)


def _about(alert: Alert) -> str:
    """Name what an alert is about as the doctor's other checks do."""
    if alert.kind in _OF_STREAMS:
        return f"stream {alert.subject}"
    if alert.kind == "restarts":
        return alert.subject
    return _OF_THE_NODE.get(alert.kind, f"{alert.kind} {alert.subject}")
