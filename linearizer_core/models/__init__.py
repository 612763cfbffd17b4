"""What each family trains: the models, without the loop that trains them."""
