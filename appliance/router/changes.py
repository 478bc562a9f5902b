"""What differs between two versions of routing.yaml, as one sentence for the history."""

from __future__ import annotations

from appliance.router.rules import Routing

_MANY = 6


def changes_between(old: Routing | None, new: Routing) -> str:
    """Name the destinations and rules that came, went or changed; None was a broken file."""
    if old is None:
        return "The file had mistakes and was mended."
    before, after = _parts(old), _parts(new)
    said = [f"{name} added" for name in after if name not in before]
    said += [f"{name} removed" for name in before if name not in after]
    said += [f"{name} changed" for name in after if name in before and before[name] != after[name]]
    if not said and [r.name for r in old.rules] != [r.name for r in new.rules]:
        said.append("order of the rules changed")
    if not said:
        return "Only comments or spelling changed." if old.digest != new.digest else "No change."
    more = f" and {len(said) - _MANY} more" if len(said) > _MANY else ""
    text = f"{'; '.join(said[:_MANY])}{more}."
    return text[0].upper() + text[1:]


def _parts(routing: Routing) -> dict[str, object]:
    return {
        **{f"destination {name}": one for name, one in routing.destinations.items()},
        **{f"rule {rule.name}": rule for rule in routing.rules},
    }
