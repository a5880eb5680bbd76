"""What each command does with each kind of data: one file for each folder of `feller.data`."""
