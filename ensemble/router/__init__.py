"""Router: keywords, a linear classifier, and the decision made of both."""
