"""Building blocks of networks: positions in attention, conditioning, codecs of leaves, EMA and LoRA."""
