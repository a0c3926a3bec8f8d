"""Made-up nsys captures: two samples to try the tool on, and the builder that makes them."""
