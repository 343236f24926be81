"""From a request to rows of token ids on a base, refused as early as possible."""
