"""The one attention function, what surrounds it, and the hooks that lead to it."""
