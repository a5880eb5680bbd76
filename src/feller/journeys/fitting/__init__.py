"""What a fit does on its way: data and recipe, what the data need, how long it will take, the training itself."""
