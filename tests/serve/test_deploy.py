"""What deploy/ holds: a health check, no root, no open door."""

from __future__ import annotations

import configparser
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_image_has_a_health_check_asks_for_keys_and_does_not_run_as_root() -> None:
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    words = {line.split()[0] for line in lines if line and not line.startswith(" ")}
    assert {"FROM", "USER", "HEALTHCHECK", "ENTRYPOINT", "STOPSIGNAL"} <= words
    assert any(line.startswith("CMD") and '"--keys"' in line for line in lines)
    assert all(":latest" not in line for line in lines if line.startswith("FROM"))


def test_the_unit_stops_in_good_order_and_stays_on_this_machine() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "foreword.service")
    service = unit["Service"]
    assert "--host" not in service["ExecStart"]
    assert int(service["TimeoutStopSec"]) > 30
    assert service["NoNewPrivileges"] == "yes"
