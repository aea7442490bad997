"""Modules that tests import: fakes, generated data and tolerances."""
