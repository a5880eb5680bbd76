"""Types of conditions, such as numbers, categories, texts and images."""
