"""Lightning callbacks of this project; import them from their modules."""
