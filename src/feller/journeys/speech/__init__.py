"""Speech: one model that fills in frames, asked for many things, and vocoders."""
