"""What a model of documents is asked for, and how it is measured."""
