"""Try a method, a head or a foreword without weights and without a network: tiny random models of every family."""

from foreword.testing.head_contracts import HEAD_CONTRACTS, check_head
from foreword.testing.method_contracts import (
    CONTRACTS,
    FAMILIES,
    REFUSED,
    byte_tokenizer,
    check_method,
    sample_ids,
    tiny,
    trained_for,
    writer_for,
)
from foreword.testing.variants import VARIANTS, Variant

__all__ = [
    "CONTRACTS",
    "FAMILIES",
    "HEAD_CONTRACTS",
    "REFUSED",
    "VARIANTS",
    "Variant",
    "byte_tokenizer",
    "check_head",
    "check_method",
    "sample_ids",
    "tiny",
    "trained_for",
    "writer_for",
]
