"""What the collector tells Prometheus of itself: totals only, no names of sites, devices or people."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SYNC_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def collector_version() -> str:
    try:
        return version("warehouse-andon")
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """One registry per application, so that two in one process do not mix."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.syncs = Counter("andon_syncs", "Syncs answered, by verdict.", ["verdict"], registry=registry)
        self.syncs_refused = Counter(
            "andon_syncs_refused", "Syncs refused, by status.", ["status"], registry=registry
        )
        self.syncs_shed = Counter(
            "andon_syncs_shed", "Syncs sent away before any work, by reason.", ["reason"], registry=registry
        )
        self.rows = Counter("andon_rows", "Occurrence rows received.", registry=registry)
        self.rows_quarantined = Counter(
            "andon_rows_quarantined",
            "Of those, put aside because they could not be taken.",
            registry=registry,
        )
        self.evidence = Counter(
            "andon_evidence_parts", "Parts of evidence received, by outcome.", ["outcome"], registry=registry
        )
        self.sync_seconds = Histogram(
            "andon_sync_seconds",
            "From request to answer, commit included.",
            buckets=SYNC_SECONDS,
            registry=registry,
        )
        self.syncs_in_flight = Gauge("andon_syncs_in_flight", "Syncs being worked on.", registry=registry)
        self.syncs_waiting = Gauge("andon_syncs_waiting", "Syncs in line, not yet read.", registry=registry)
        self.commands = Counter(
            "andon_commands",
            "Commands of people, by kind and outcome.",
            ["command", "outcome"],
            registry=registry,
        )
        self.logins = Counter("andon_logins", "Log-ins, by outcome.", ["outcome"], registry=registry)
        self.live_pages = Gauge("andon_live_pages", "Pages that listen for changes.", registry=registry)
        self.tickets = Gauge(
            "andon_tickets_open",
            "Open tickets, by condition and work.",
            ["condition", "work"],
            registry=registry,
        )
        self.gateways = Gauge("andon_gateways", "Gateways enrolled and not revoked.", registry=registry)
        self.gateways_silent = Gauge("andon_gateways_silent", "Of those, silent now.", registry=registry)
        self.buses_behind = Gauge(
            "andon_buses_behind", "Buses that keep less than 90 % of their reads.", registry=registry
        )
        self.cycle_over_plan = Gauge(
            "andon_bus_cycle_over_plan",
            "The slowest bus: how long it takes to ask everything once, of what was predicted.",
            registry=registry,
        )
        self.sweeps_failed = Counter(
            "andon_sweeps_failed", "Sweeps that ended in an error.", registry=registry
        )
        self.crashes = Counter("andon_crashes", "Requests that ended in an error of ours.", registry=registry)
        build = Gauge(
            "andon_build_info", "Always 1; the version is the label.", ["version"], registry=registry
        )
        build.labels(version=collector_version()).set(1)

    def count_tickets(self, open_tickets: Mapping[tuple[str, str], int]) -> None:
        """By (condition, work); what is not named is gone."""
        self.tickets.clear()
        for (condition, work), number in open_tickets.items():
            self.tickets.labels(condition=condition, work=work).set(number)

    def text(self) -> bytes:
        return generate_latest(self._registry)
