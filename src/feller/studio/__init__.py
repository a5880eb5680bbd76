"""The page of `feller serve`: what a run can do, as tabs that are put together from what the commands use."""
