"""Networks that write pictures as a few whole numbers, and read them back."""
