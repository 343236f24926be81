"""The Foreword value, and how a row gets it: keys and values, soft prompts, slots, low-rank changes, weights."""
