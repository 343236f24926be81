"""Runs: from a data file to a foreword and back."""
