"""Metrics: one answer against its references."""

from foreword.evaluation.metrics.metric_registry import METRICS, get_metric

__all__ = ["METRICS", "get_metric"]
