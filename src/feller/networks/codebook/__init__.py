"""Image tokenizers: vector quantisation and finite scalar quantisation."""
