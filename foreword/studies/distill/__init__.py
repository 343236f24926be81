"""A short foreword that answers like a long context."""
