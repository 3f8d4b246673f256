"""What is built of tied block convolutions: checks, drawings, and the command `tbc`."""
