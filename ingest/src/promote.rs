//! What auditors search for in CloudTrail's free-form parts, as fields that are always there.
