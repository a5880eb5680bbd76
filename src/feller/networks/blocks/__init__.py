"""Building blocks of networks: relative positions, conditioning, codecs of state leaves, EMA and LoRA."""
