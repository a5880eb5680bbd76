"""Per-modality defaults and functions of the commands and reports; one module per package of `feller.data`."""
