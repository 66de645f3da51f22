//! What happened, in CloudWatch's embedded metric format.
