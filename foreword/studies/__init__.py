"""What is built from several runs: comparisons, searches, sweeps, probes."""
