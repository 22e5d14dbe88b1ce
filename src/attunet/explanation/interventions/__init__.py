"""How a mask changes when gates are replaced or voxels are blurred."""
