"""Private fits: budget, schema search, statistics, guarantee."""
