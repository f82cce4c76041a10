"""The part of the pytest plug-in that works: suites as tests, the fixture `joules`, a table at the end."""

from bench.pytest_plugin.plugin import JoulesPlugin

__all__ = ["JoulesPlugin"]
