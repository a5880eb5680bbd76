"""Speech: recordings with phones, transcripts and alignments."""
