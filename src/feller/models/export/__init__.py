"""Export of models to other formats, and import of user networks."""
