"""What a report shows, one module a panel or a family of them."""
