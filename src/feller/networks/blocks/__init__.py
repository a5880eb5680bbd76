"""Building blocks of networks: attention, conditioning, EMA, LoRA."""
