"""How samples are drawn: by their numbers, in shards, and into rows with gaps."""
