"""Is a table any good? What can be said of its vectors without a target, on one page."""
