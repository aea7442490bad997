"""Statistics of scores: intervals, paired tests, power, multiple testing."""
