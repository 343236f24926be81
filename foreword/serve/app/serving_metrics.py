"""What ``/metrics`` shows, in Prometheus' form."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foreword.serve.engine.engine import Engine
from foreword.serve.engine.library import Library

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _EngineCollector(Collector):
    """Reads the engine's own counters when somebody asks."""

    def __init__(self, engine: Engine, library: Library) -> None:
        self._engine, self._library = engine, library

    def collect(self) -> Iterator[Metric]:
        """Gauges of now and totals since the start."""
        engine, stats = self._engine, self._engine.stats
        running = engine.running
        gauges = {
            "queue": (len(engine.waiting), "Requests that wait."),
            "running_rows": (len(running.rows) if running else 0, "Rows that are written now."),
            "row_slots": (engine.limits.rows if running else 0, "Rows that can be written at once."),
            "loaded_forewords": (len(self._library.loaded()), "Forewords in memory."),
            "loaded_foreword_bytes": (self._library.loaded_bytes(), "What they take."),
            "listed_forewords": (len(self._library.names()), "Forewords that can be asked for."),
        }
        for name, (value, text) in gauges.items():
            yield GaugeMetricFamily(f"foreword_{name}", text, value=value)
        totals = {
            "steps": (stats.steps, "Passes of the model that wrote."),
            "step_rows": (stats.step_rows, "Rows in those passes; by steps and slots: how full batches are."),
            "prompt_tokens_read": (stats.tokens_read, "Tokens of prompts."),
            "prompt_tokens_shared": (stats.tokens_shared, "Tokens of prompts that another row had read."),
            "tokens_written": (stats.tokens_written, "Tokens of answers."),
            "score_passes": (stats.score_passes, "Passes of the model that scored labels."),
            "rows_scored": (stats.rows_scored, "Rows in those passes."),
        }
        for name, (value, text) in totals.items():
            yield CounterMetricFamily(f"foreword_{name}", text, value=value)


class ServingMetrics:
    """Counters of requests, by foreword: only names of forewords that exist become labels."""

    def __init__(self, engine: Engine, library: Library) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineCollector(engine, library))
        label, here = ("foreword",), self.registry
        self.requests = Counter("foreword_requests", "Requests that were begun.", label, registry=here)
        self.tokens = Counter("foreword_tokens", "Tokens of answers.", label, registry=here)
        self.errors = Counter("foreword_errors", "Requests that were refused or failed.", ("status",), registry=here)
        self.first_token = Histogram(
            "foreword_first_token_seconds", "From a request to its first token.", label, registry=here, buckets=_SECONDS
        )

    def render(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)
