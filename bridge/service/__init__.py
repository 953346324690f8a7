"""The composition root: builds the parts and joins the engines, which do not know each other."""
