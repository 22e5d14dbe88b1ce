"""DICOM objects about predictions: segmentations, structure sets, parametric maps, reports and pictures."""
