"""Building blocks of networks: relative positions, conditioning, codecs of state components, EMA and LoRA."""
