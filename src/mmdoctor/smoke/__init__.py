"""The short real run: golden mmcv ops and an RTMPose inference inside the target, against reference values."""
