"""`flashsale demo`: one whole sale with thousands of customers, over real HTTP, and the proof that it adds up."""
