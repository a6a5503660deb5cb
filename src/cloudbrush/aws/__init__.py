"""What Cloudbrush owns in an AWS account: made, looked at, taken down. boto3 is loaded when first called."""
