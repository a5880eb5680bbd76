"""Speech: recordings with transcripts, phones and phone alignments."""
