"""What becomes of a mask when gates are replaced or voxels taken away."""
