"""`flashsale top`: the sales as they go, in a terminal."""
