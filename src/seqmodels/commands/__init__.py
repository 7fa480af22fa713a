"""The commands behind ``seqmodels COMMAND``, one module each, imported only when called."""
