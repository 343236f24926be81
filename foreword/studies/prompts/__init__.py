"""Variants of a prompt: made, read, scored, raced. Search, compare, bias and explain use them."""
