//! Sends documents until every one is accounted for.
