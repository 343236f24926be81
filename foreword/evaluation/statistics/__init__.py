"""From scores to intervals, and from intervals to what may be claimed."""
