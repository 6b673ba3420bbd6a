"""Networks with no probability in them."""
