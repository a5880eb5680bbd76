"""Networks for log mel frames and audio."""
