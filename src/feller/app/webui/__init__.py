"""Web page of `feller serve`."""
