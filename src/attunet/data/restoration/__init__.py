"""From the model grid back to the patient's: all at once (`whole`) or slab by slab (`route`), to the same voxel."""
