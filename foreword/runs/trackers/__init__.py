"""Where a run's figures go while it trains, beside its own log: one file a tracker; none unless it is asked for."""
