"""DICOM files: fields and voxels of a file, the pieces of volumes that it holds, and the volumes that pieces make."""
