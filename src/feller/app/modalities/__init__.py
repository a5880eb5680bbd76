"""Per-modality defaults and functions of commands and reports: one module per package of `feller.data`."""
