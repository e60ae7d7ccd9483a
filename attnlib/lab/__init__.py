"""What the book's chapters share. Nothing else in attnlib imports it."""
