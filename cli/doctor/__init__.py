"""`flashsale doctor`: whether everything around us is set as a sale wants it."""
