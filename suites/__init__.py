"""Shipped suites: YAML files, found by name. Code lives in bench/."""
