"""The dispatcher: says when a study has arrived whole, makes its job, rings for it."""
