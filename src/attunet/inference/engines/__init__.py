"""What runs the network, and how engines are compared."""
