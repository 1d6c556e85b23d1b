"""Who may call, with what, how often and how long: keys, tokens, limits, headers, deadlines."""
