"""Speech: sounds with the text that is said in them."""
