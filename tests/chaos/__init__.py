"""Breaking the ground below podbridge: calls that fail, disks that are cut off, processes that are killed."""
