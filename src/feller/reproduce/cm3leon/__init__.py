"""CM3Leon: texts and pictures that follow each other in one model, on pictures that are drawn here."""
