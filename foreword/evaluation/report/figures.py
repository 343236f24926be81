"""Figures that show themselves: short in a shell, a card in a notebook, a frame for whoever computes on."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_CARD = "border:1px solid #8886;border-radius:8px;padding:12px 16px;max-width:44em;font-family:system-ui,sans-serif"


class Figures(dict[str, Any]):
    """What :func:`foreword.evaluate` found: ``rows``, ``metrics`` and, for a classification, ``report``."""

    def to_frame(self) -> pd.DataFrame:
        """One row a metric: ``value``, ``low``, ``high`` and what else is known of it."""
        import pandas as pd

        return pd.DataFrame.from_dict(self["metrics"], orient="index").rename_axis("metric")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {interval(figure)}" for name, figure in self["metrics"].items())
        return f"Figures({self['rows']} rows: {shown})"

    def _repr_html_(self) -> str:
        return card(f"{self['rows']} rows", {"": self})


class Shown:
    """A result that shows itself: its verdict first, then its figures.

    ``systems`` has the figures of each system; ``verdict`` is a sentence or several; ``metric`` the one that decides.
    """

    systems: dict[str, Any]
    verdict: Any
    metric: str

    def to_frame(self) -> pd.DataFrame:
        """One row a system and metric, with ``value``, ``low``, ``high`` and what else is known of it."""
        import pandas as pd

        lines = [
            {"system": system, "metric": metric, **figure}
            for system, figures in self.systems.items()
            for metric, figure in figures["metrics"].items()
        ]
        return pd.DataFrame(lines)

    def __repr__(self) -> str:
        metric = getattr(self, "metric", "")
        figures = (f"{name} {interval(of['metrics'].get(metric, {}))}" for name, of in self.systems.items())
        shown = "; ".join(part for part in (self._sentence(), ", ".join(figures)) if part)
        return f"{type(self).__name__}({shown})"

    def _sentence(self) -> str:
        return self.verdict if isinstance(self.verdict, str) else " ".join(self.verdict[:1])

    def _repr_html_(self) -> str:
        file, alarms = getattr(self, "file", None), getattr(self, "alarms", ())
        notes = {"file": file} if file else {}
        return card(self._sentence(), self.systems, {**notes, **({"note": "; ".join(alarms)} if alarms else {})})


def interval(figure: Mapping[str, Any]) -> str:
    """``0.912 [0.88, 0.94]``, as far as it is known."""
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.3g}" + ("" if low is None or high is None else f" [{low:.3g}, {high:.3g}]")


def card(verdict: str, systems: Mapping[str, Mapping[str, Any]], notes: Mapping[str, str] | None = None) -> str:
    """A verdict with its figures as HTML that a notebook shows; every text in it is escaped.

    Args:
        systems: name -> figures, with ``metrics``.
        notes: heading -> text, below.
    """
    metrics = list(dict.fromkeys(name for figures in systems.values() for name in figures["metrics"]))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *metrics])
    body = "".join(
        f"<tr><th>{html.escape(system)}</th>"
        + "".join(f"<td>{html.escape(interval(figures['metrics'].get(name, {})))}</td>" for name in metrics)
        + "</tr>"
        for system, figures in systems.items()
    )
    below = "".join(f"<p><b>{html.escape(k)}</b> {html.escape(v)}</p>" for k, v in (notes or {}).items())
    table = f"<table><tr>{head}</tr>{body}</table>" if systems else ""
    return f'<div style="{_CARD}"><p><strong>{html.escape(verdict)}</strong></p>{table}{below}</div>'
