"""mmdoctor: environment doctor and installer for the MMPose stack."""

__version__ = "0.1.0"
