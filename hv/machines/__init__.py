"""Machine descriptions: fixed addresses, the wiring of the board, and ready-made machines."""
