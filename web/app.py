"""The application: its views, its guard, its filters, its error pages."""

from __future__ import annotations

from flask import Flask

from appliance.index.database import Database
from appliance.settings import Settings
from web import failures, wording
from web.actions import actions
from web.activity import activity
from web.arrivals import arrivals
from web.deliveries import deliveries
from web.downloads import downloads
from web.frame import Json, frame, read_clock
from web.guard import Guard
from web.health import health
from web.home import home
from web.job import job
from web.job_log import job_log
from web.jobs import jobs
from web.login import login
from web.node import Node
from web.node_health import node_health
from web.quarantine import quarantine
from web.quarantined import quarantined
from web.routing import routing
from web.routing_edit import routing_edit
from web.streams import streams

_VIEWS = (
    frame, login, health, home, jobs, job, job_log, downloads, actions, arrivals, streams,
    deliveries, routing, routing_edit, quarantine, quarantined, activity,
    node_health,
)
_LARGEST_BODY = 64 * 1024
_FILTERS = (
    wording.lasted, wording.size, wording.count, wording.grouped, wording.clock, wording.moment,
    wording.iso, wording.person, wording.scanner_date, wording.lower_first, wording.marks,
)


def make_app(settings: Settings, db: Database) -> Flask:
    """Make the application of one node; SettingsError when its key cannot be kept."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _LARGEST_BODY
    app.config["MAX_FORM_MEMORY_SIZE"] = _LARGEST_BODY
    app.json = Json(app)
    app.extensions["brookbox"] = Node.of(settings, db)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    for one in _FILTERS:
        app.jinja_env.filters[one.__name__] = one
    app.jinja_env.globals["job_states"] = wording.JOB_STATES
    app.jinja_env.globals["quarantine_kinds"] = wording.QUARANTINE_KINDS
    app.jinja_env.globals["delivery_states"] = wording.DELIVERY_STATES
    app.before_request(read_clock)
    Guard(settings).install(app)
    for view in _VIEWS:
        app.register_blueprint(view)
    failures.install(app)
    return app
