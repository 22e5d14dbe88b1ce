"""The networks (torch only): blocks, gates, the Attention U-Net, its presets and foreign weights."""
