"""routing.yaml, to read: destinations, rules in their order, and what is wrong with it."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from appliance.router.rules import BACK_TO_SENDER, Rule
from web.frame import page
from web.node import node

routing = Blueprint("routing", __name__)


@routing.get("/routing")
def show() -> ResponseReturnValue:
    """Show it."""
    here = node()
    state = here.routing.current(here.settings)
    return page("routing.html", state_=state, when=when, back_to_sender=BACK_TO_SENDER)


@routing.get("/api/v1/routing")
def show_json() -> ResponseReturnValue:
    """Give it to a program."""
    here = node()
    state = here.routing.current(here.settings)
    found = state.routing
    return jsonify(
        file=state.file,
        is_good=found is not None,
        mistakes=state.mistakes,
        digest=found.digest if found else "",
        destinations=list(found.destinations.values()) if found else [],
        rules=[
            {"name": r.name, "when": when(r), "what": r.what, "to": r.to, "stop": r.stop,
             "enabled": r.enabled}
            for r in (found.rules if found else ())
        ],
        text=state.text,
    )


def when(rule: Rule) -> str:
    """Say in words when a rule applies."""
    parts = [f"outcome is {' or '.join(rule.outcome)}"]
    if rule.called:
        parts.append(f"called AE title matches {rule.called.pattern}")
    if rule.calling:
        parts.append(f"calling AE title matches {rule.calling.pattern}")
    if rule.tags:
        alternatives = [
            " and ".join(f"{test.name} matches {test.pattern.pattern}" for test in tests)
            for tests in rule.tags
        ]
        parts.append(" or ".join(alternatives))
    return ", and ".join(parts)
