"""The commands of `feller`, one module each."""
