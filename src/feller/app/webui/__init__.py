"""The page of `feller serve`."""
