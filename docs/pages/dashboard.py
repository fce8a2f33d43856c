"""The dashboard for Grafana: what each panel shows, and the file that Grafana imports."""

import json
from typing import Any, Final, NamedTuple


class Panel(NamedTuple):
    """A panel of the dashboard.

    Attributes:
        title: above the panel.
        unit: of Grafana: `short`, `s`, `bytes` or `ops`.
        queries: expressions of PromQL, by the legend of their series.
        stat: one number instead of a chart.
    """

    title: str
    unit: str
    queries: dict[str, str]
    stat: bool = False


def _rate(metric: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def _quantiles(metric: str, by: str = "") -> dict[str, str]:
    also = f", {by}" if by else ""
    legend = f"{{{{{by}}}}} " if by else ""
    return {
        f"{legend}{percent} %": f"histogram_quantile({percent / 100:g}, sum by (le{also}) (rate({metric}_bucket[$__rate_interval])))"
        for percent in (50, 99)
    }


PANELS: Final = (
    Panel("Jobs unaccounted for", "short", {"jobs": "stockworker_jobs_unaccounted"}, stat=True),
    Panel("Signs of losses", "short", {"losses": "stockworker_lost"}, stat=True),
    Panel("Jobs waiting", "short", {"jobs": "sum(stockworker_queue_jobs)"}, stat=True),
    Panel("Oldest waiting job", "s", {"age": "max(stockworker_queue_oldest_seconds)"}, stat=True),
    Panel("Workers online", "short", {"workers": "sum(stockworker_fleet_workers)"}, stat=True),
    Panel(
        "Workers offline", "short", {"workers": "count(stockworker_fleet_worker_online == 0) or vector(0)"}, stat=True
    ),
    Panel(
        "Services disconnected",
        "short",
        {"services": "count(stockworker_service_connected == 0) or vector(0)"},
        stat=True,
    ),
    Panel("Jobs received", "ops", {"received": _rate("stockworker_jobs_received_total")}),
    Panel("Jobs ended", "ops", {"{{state}}": _rate("stockworker_jobs_ended_total", "state")}),
    Panel("Jobs in the store", "short", {"{{state}}": "sum by (state) (stockworker_jobs)"}),
    Panel(
        "Jobs waiting by type", "short", {"{{type}} {{priority}}": "sum by (type, priority) (stockworker_queue_jobs)"}
    ),
    Panel("Oldest waiting job by type", "s", {"{{type}}": "max by (type) (stockworker_queue_oldest_seconds)"}),
    Panel(
        "Workers that could run a type",
        "short",
        {"{{type}}": "stockworker_queue_workers", "{{type}} paused": "stockworker_queue_paused > 0"},
    ),
    Panel("Wait for a worker", "s", _quantiles("stockworker_job_wait_seconds")),
    Panel("From the assignment to the end", "s", _quantiles("stockworker_attempt_seconds")),
    Panel("From the receipt to the end", "s", _quantiles("stockworker_job_seconds")),
    Panel("Turns", "s", _quantiles("stockworker_service_turn_seconds", "service")),
    Panel("At the worker: start", "s", _quantiles("stockworker_worker_start_seconds")),
    Panel("At the worker: run", "s", _quantiles("stockworker_worker_run_seconds")),
    Panel("At the worker: report", "s", _quantiles("stockworker_worker_report_seconds")),
    Panel("Attempts by outcome", "ops", {"{{outcome}}": _rate("stockworker_attempts_total", "outcome")}),
    Panel(
        "Failed attempts by worker",
        "ops",
        {"{{worker}}": _rate('stockworker_worker_attempts_total{outcome=~"error|timed_out|crashed"}', "worker")},
    ),
    Panel(
        "Leases and stale results",
        "ops",
        {
            "leases expired": _rate("stockworker_leases_expired_total"),
            "results refused": _rate("stockworker_reports_stale_total"),
        },
    ),
    Panel(
        "Refused by the dispatcher",
        "ops",
        {
            "jobs": _rate("stockworker_submissions_rejected_total"),
            "malformed messages": _rate("stockworker_messages_refused_total"),
            "messages of denied workers": _rate("stockworker_messages_denied_total"),
            "queries": _rate("stockworker_queries_dropped_total"),
        },
    ),
    Panel(
        "Slots",
        "short",
        {"busy": "sum(stockworker_worker_running)", "all": "sum(stockworker_worker_slots)"},
    ),
    Panel("Unreported results", "short", {"{{worker}}": "stockworker_worker_unreported_results > 0"}),
    Panel("Evicted results", "ops", {"{{worker}}": _rate("stockworker_worker_evicted_results_total", "worker")}),
    Panel(
        "Connections to the broker",
        "ops",
        {"{{service}}": _rate("stockworker_service_connections_total", "service")},
    ),
    Panel(
        "Messages on the way to the broker",
        "short",
        {"{{service}}": "sum by (service) (stockworker_service_unconfirmed_messages)"},
    ),
    Panel(
        "Messages without effect",
        "ops",
        {
            "dropped {{service}}": _rate("stockworker_service_dropped_messages_total", "service"),
            "unheard {{service}}": _rate("stockworker_service_unheard_messages_total", "service"),
        },
    ),
    Panel("Signs of losses by cause", "short", {"{{cause}}": "stockworker_lost_by_cause"}),
    Panel("Tracers", "ops", {"{{outcome}}": _rate("stockworker_tracers_total", "outcome")}),
    Panel("The way of a tracer", "s", _quantiles("stockworker_tracer_seconds")),
    Panel("Free space", "bytes", {"{{service}}": "stockworker_service_free_bytes"}),
    Panel(
        "Certificates that expire next",
        "s",
        {
            "{{service}}": "bottomk(5, stockworker_service_certificate_seconds)",
            "broker of {{service}}": "bottomk(5, stockworker_service_broker_certificate_seconds)",
            "{{worker}}": "bottomk(5, stockworker_fleet_worker_certificate_seconds)",
        },
    ),
    Panel(
        "Versions",
        "short",
        {
            "workers {{version}}": "stockworker_fleet_workers",
            "services {{version}}": "count by (version) (stockworker_service_info)",
        },
    ),
)

_COLUMNS: Final = 24
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


def dashboard() -> str:
    """The file `etc/grafana/stockworker.json`."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    model = {
        "title": "stockworker",
        "uid": "stockworker",
        "schemaVersion": 38,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": _placed(),
    }
    return json.dumps(model, indent=1) + "\n"


def _placed() -> list[dict[str, Any]]:
    """The panels from left to right, line by line."""
    placed, x, y, line_height = [], 0, 0, 0
    for number, panel in enumerate(PANELS, 1):
        width, height = (4, 4) if panel.stat else (8, 8)
        if x + width > _COLUMNS:
            x, y = 0, y + line_height
        placed.append(_shown(panel, number, {"x": x, "y": y, "w": width, "h": height}))
        x, line_height = x + width, height
    return placed


def _shown(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "type": "stat" if panel.stat else "timeseries",
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for at, (legend, expression) in enumerate(panel.queries.items())
        ],
    }
