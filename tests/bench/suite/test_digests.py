"""Digests of suites stay the same, so that a run of an older version can be continued."""

from __future__ import annotations

import pytest

from bench.suite.load import load_suite

DIGESTS = {
    "quickstart": "a4e2cdb25552",
    "cifar-flip": "1304ff05b15f",
    "cifar10c": "7d6018aaf5c9",
    "cifar10c-like": "28a333ed210f",
    "living17": "a443640ef8a2",
    "engines": "376e834d3094",
    "motivation": "20a386c2ddb0",
    "system-cost": "4be5aa34b212",
    "system-cost-published": "2d43abeeef19",
    "rivals": "ad12f3dc132d",
    "rivals-cifar": "ff36147e813e",
    "rivals-cifar-gn": "a5c7bce84b2d",
    "rivals-subpopulation": "cfedc22b715f",
    "streams-cifar": "b1952c3dcf54",
    "living-tiny": "36627c9c6361",
}
"""First twelve digits of each shipped suite's digest when its first runs were made."""


@pytest.mark.parametrize("name", DIGESTS)
def test_a_shipped_suite_has_the_digest_of_its_first_runs(name: str) -> None:
    assert load_suite(name).suite.digest()[:12] == DIGESTS[name]
